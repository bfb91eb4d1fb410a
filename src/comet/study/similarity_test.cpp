#include "comet/study/similarity.h"

#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "comet/models/load.h"
#include "comet/nn/token_scores.h"

namespace comet::study {
namespace {

TEST(KlDivergence, EqualsTheDefinition) {
  const std::array<float, 3> base{0.0F, 1.0F, -2.0F};
  const std::array<float, 3> other{0.5F, 0.25F, 100.0F};
  const auto softmax = [](const std::array<float, 3>& x) {
    double total = 0;
    for (const float v : x) total += std::exp(static_cast<double>(v));
    return std::array<double, 3>{std::exp(x[0]) / total, std::exp(x[1]) / total,
                                 std::exp(x[2]) / total};
  };
  const auto p = softmax(base);
  double expected = 0;
  const double norm = 100.0 + std::log1p(std::exp(0.5 - 100.0) + std::exp(0.25 - 100.0));
  for (int i = 0; i < 3; ++i) expected += p[i] * (std::log(p[i]) - (other[i] - norm));
  EXPECT_NEAR(nn::kl_divergence(base, other), expected, 1e-5 * expected);
  EXPECT_EQ(nn::kl_divergence(base, base), 0.0);
}

TEST(CompareModels, AModelIsLikeItselfAndACoarserCacheIsLessSo) {
  auto runtime = Runtime::cpu(detect_cpu_isa(), 2);
  Context& ctx = runtime->context();
  const auto checkpoint = io::Checkpoint::open(COMET_SOURCE_DIR "/models/demo").value();
  const auto base = models::load_model(ctx, checkpoint, "kv16").value();
  const auto coarse = models::load_model(ctx, checkpoint, "kv4").value();
  const std::vector<std::vector<int32_t>> prompts{{8176, 290, 310, 400},
                                                  {8176, 5, 6, 7, 1000, 2000}};
  const SimilarityOptions options{
      .max_tokens = 24, .stop_tokens = {}, .decode = [](const std::vector<int32_t>& ids) {
        return fmt::format("{}", fmt::join(ids, " "));
      }};
  const Similarity same = compare_models(ctx, *base, *base, prompts, options, [] {}).value();
  EXPECT_EQ(same.exact_match.value, 1.0);
  EXPECT_EQ(same.first_divergence.value, 24.0);
  EXPECT_NEAR(same.kl.value, 0.0, 1e-12);
  EXPECT_EQ(same.top1_agreement.value, 1.0);
  EXPECT_EQ(same.num_tokens, 48);
  EXPECT_EQ(same.rouge1.value, 1.0);
  EXPECT_EQ(same.rouge_l.value, 1.0);
  EXPECT_EQ(same.rouge_l.std_error, 0.0);
  const Similarity other = compare_models(ctx, *base, *coarse, prompts, options, [] {}).value();
  EXPECT_GT(other.kl.value, 1e-4);
  EXPECT_LT(other.kl.value, 1.0);
  EXPECT_GE(other.top1_agreement.value, 0.5);
  EXPECT_GT(other.kl.std_error, 0.0);
  ASSERT_EQ(other.texts.size(), 2U);
  EXPECT_EQ(other.texts[0].base, same.texts[0].base);
  EXPECT_LE(other.rouge_l.value, other.rouge1.value);
  EXPECT_FALSE(compare_models(ctx, *base, *base, {}, options, [] {}).ok());
}

}  // namespace
}  // namespace comet::study
