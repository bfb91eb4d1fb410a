// The GPU's sampler against the CPU's: the same token from the same logits, parameters and counter.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "comet/base/rng.h"
#include "comet/engine/sampling/device_sampler.h"
#include "comet/engine/sampling/logprobs.h"
#include "support/gpu.h"

namespace comet::engine {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

/// One row: what is asked for, and its logits.
struct Case {
  std::vector<float> logits;
  SamplingParams params;
  TokenCounts counts = {};
  std::vector<int32_t> forbidden = {};
  uint64_t position = 0;

  [[nodiscard]] SamplePoint point() const { return {counts, forbidden, position}; }
};

class DeviceSamplerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto runtime = Runtime::cuda(0, 1);
    if (!runtime.ok()) GTEST_SKIP() << "no GPU";
    runtime_ = *std::move(runtime);
    sampler_ = std::make_unique<DeviceSampler>(runtime_->context());
  }

  /// All rows in one batch; they have one vocabulary.
  std::vector<DrawnToken> sample(const std::vector<Case>& cases, int64_t gap = 0) {
    const auto vocab = static_cast<int64_t>(cases[0].logits.size());
    const auto rows = static_cast<int64_t>(cases.size());
    const Shape shape{rows, vocab + gap};
    Tensor host(std::make_shared<Storage>(host_allocator(), rows * (vocab + gap) * 4), 0,
                DType::kF32, shape);
    std::vector<DeviceDraw> draws;
    for (int64_t i = 0; i < rows; ++i) {
      float* row = host.data<float>() + i * (vocab + gap);
      std::copy(cases[i].logits.begin(), cases[i].logits.end(), row);
      std::fill_n(row + vocab, gap, 1e30F);  // must not be read
      draws.push_back({&cases[i].params, cases[i].point()});
    }
    const Tensor logits = copy_to_device(runtime_->context(), host).slice(1, 0, vocab);
    sampler_->start(logits, draws);
    const std::span<const DrawnToken> drawn = sampler_->wait();
    return {drawn.begin(), drawn.end()};
  }

  /// How many rows differ from sample_token(); logprobs are checked.
  int num_differences(const std::vector<Case>& cases, int64_t gap = 0) {
    const std::vector<DrawnToken> drawn = sample(cases, gap);
    SamplerScratch scratch;
    int count = 0;
    for (size_t i = 0; i < cases.size(); ++i) {
      const Case& c = cases[i];
      const int32_t expected = sample_token(c.logits, c.params, c.point(), scratch);
      const int32_t token = drawn[i].token;
      if (token < 0 || token >= static_cast<int32_t>(c.logits.size())) {
        ADD_FAILURE() << "row " << i << ": token " << token;
        continue;
      }
      if (token != expected) {
        ++count;
        EXPECT_GE(c.params.temperature, 1e-5)
            << "row " << i << ": greedy " << expected << ", not " << token;
      }
      const float logprob = position_logprobs(c.logits, token, 0).chosen.logprob;
      EXPECT_NEAR(drawn[i].logprob, logprob, 1e-4 + 1e-6 * std::abs(logprob)) << "row " << i;
    }
    return count;
  }

  std::unique_ptr<Runtime> runtime_;
  std::unique_ptr<DeviceSampler> sampler_;
};

Case random_case(uint64_t seed, int32_t vocab) {
  Rng rng(seed);
  Case c;
  const auto below = [&](uint64_t n) { return static_cast<int32_t>(rng.next_below(n)); };
  const float spread = std::exp(3 * rng.next_uniform());
  c.logits.resize(vocab);
  for (float& x : c.logits) x = spread * rng.next_normal();
  if (below(3) == 0) {  // ties
    for (float& x : c.logits) x = std::round(x);
  }
  SamplingParams& p = c.params;
  p.seed = seed;
  p.temperature = below(6) == 0 ? 0.0 : std::exp(2.0 * rng.next_uniform() - 1.5);
  if (below(2) == 0) p.top_k = 1 + below(below(2) == 0 ? 50 : vocab + 2);
  if (below(2) == 0) p.top_p = 0.05 + 0.9 * rng.next_uniform();
  if (below(3) == 0) p.min_p = 0.5 * rng.next_uniform();
  if (below(3) == 0) p.repetition_penalty = 0.5 + rng.next_uniform();
  if (below(3) == 0) p.presence_penalty = 2 * rng.next_uniform() - 1;
  if (below(3) == 0) p.frequency_penalty = 2 * rng.next_uniform() - 1;
  if (below(3) == 0) p.logit_bias = {{below(vocab), 3.0F}, {below(vocab), -100.0F}};
  if (below(4) == 0) c.forbidden = {below(vocab), below(vocab), -7, vocab};
  for (int i = 0; i < 20; ++i) {
    c.counts.add_prompt(std::vector<int32_t>{below(vocab)});
    if (i % 2 == 0) c.counts.add_output(below(vocab));
  }
  c.position = seed % 17;
  return c;
}

TEST_F(DeviceSamplerTest, DrawsWhatTheCpuDraws) {
  int num_different = 0;
  int num_rows = 0;
  for (const int32_t vocab : {1, 2, 37, 1000, 4096, 4097, 20000}) {
    std::vector<Case> cases;
    for (uint64_t i = 0; i < 150; ++i) cases.push_back(random_case(1000 * vocab + i, vocab));
    num_different += num_differences(cases, vocab % 3);
    num_rows += 150;
  }
  // Roundings of exp may move a draw that falls between two tokens, or a cut through near equals.
  EXPECT_LE(num_different, num_rows / 200);
}

/// Few rows and few parts, for compute-sanitizer.
TEST_F(DeviceSamplerTest, SmallBatches) {
  for (const int32_t vocab : {37, 4097}) {
    std::vector<Case> cases;
    for (uint64_t i = 0; i < 12; ++i) cases.push_back(random_case(i, vocab));
    EXPECT_LE(num_differences(cases, 3), 1);
  }
}

TEST_F(DeviceSamplerTest, LargeVocabularies) {
  std::vector<Case> cases;
  for (const double temperature : {0.0, 0.7, 1.0, 3.0}) {
    for (const int64_t top_k : {0, 50, 30000}) {
      for (const double top_p : {1.0, 0.9}) {
        for (const double min_p : {0.0, 0.02}) {
          for (const float spread : {0.3F, 4.0F}) {
            Case c;
            Rng rng(cases.size());
            c.logits.resize(128256);
            for (float& x : c.logits) x = spread * rng.next_normal();
            c.params = {.temperature = temperature,
                        .top_k = top_k,
                        .top_p = top_p,
                        .min_p = min_p,
                        .seed = cases.size()};
            cases.push_back(std::move(c));
          }
        }
      }
    }
  }
  EXPECT_LE(num_differences(cases), 1);
}

TEST_F(DeviceSamplerTest, ManyTiesAreCutById) {
  std::vector<Case> cases;
  for (uint64_t i = 0; i < 60; ++i) {
    Case c;
    Rng rng(i);
    c.logits.resize(9000);
    for (float& x : c.logits) x = static_cast<float>(rng.next_below(i % 3 + 1));  // 1, 2, 3 values
    c.params = {.temperature = 1.0, .seed = i};
    c.params.top_k = i % 2 == 0 ? 1 + static_cast<int64_t>(rng.next_below(9000)) : 0;
    c.params.top_p = i % 4 < 2 ? 0.3 + 0.5 * rng.next_uniform() : 1.0;
    c.position = i;
    cases.push_back(std::move(c));
  }
  EXPECT_LE(num_differences(cases), 1);
  // All equal: k = 5 keeps ids 0…4, whatever the draw.
  for (Case& c : cases) {
    std::fill(c.logits.begin(), c.logits.end(), 2.5F);
    c.params.top_k = 5;
    c.params.top_p = 1.0;
  }
  for (const DrawnToken& drawn : sample(cases)) EXPECT_LT(drawn.token, 5);
}

TEST_F(DeviceSamplerTest, ARowIsIndependentOfItsBatch) {
  std::vector<Case> cases;
  for (uint64_t i = 0; i < 64; ++i) cases.push_back(random_case(i, 5000));
  const std::vector<DrawnToken> together = sample(cases);
  for (size_t i = 0; i < cases.size(); ++i) {
    const std::vector<DrawnToken> alone = sample({cases[i]});
    EXPECT_EQ(alone[0].token, together[i].token);
    EXPECT_EQ(alone[0].logprob, together[i].logprob);
  }
}

TEST_F(DeviceSamplerTest, FrequenciesFollowTheDistribution) {
  constexpr int kDraws = 20000;
  constexpr size_t kVocab = 8;
  std::vector<float> logits(kVocab);
  for (size_t i = 0; i < kVocab; ++i) logits[i] = 0.4F * static_cast<float>(i);
  double sum = 0;
  for (const float x : logits) sum += std::exp(x);
  std::vector<Case> cases(500);
  std::vector<int> counts(kVocab);
  for (int pass = 0; pass < kDraws / 500; ++pass) {
    for (size_t i = 0; i < cases.size(); ++i) {
      cases[i].logits = logits;
      cases[i].params = {.temperature = 1.0, .seed = i};
      cases[i].position = static_cast<uint64_t>(pass);
    }
    for (const DrawnToken& drawn : sample(cases)) ++counts[drawn.token];
  }
  for (size_t i = 0; i < kVocab; ++i) {
    const double p = std::exp(logits[i]) / sum;
    EXPECT_NEAR(counts[i], kDraws * p, 5 * std::sqrt(kDraws * p)) << i;
  }
}

TEST_F(DeviceSamplerTest, ExtremesAreSafe) {
  const std::vector<float> row{-3e38F, 1.0F, 3e38F, 2.0F, 1.0F};
  std::vector<Case> cases;
  for (const double temperature : {0.0, 1e-30, 1e-6, 1e-4, 1.0}) {
    Case c;
    c.logits = row;
    c.params.temperature = temperature;
    cases.push_back(c);
  }
  for (const DrawnToken& drawn : sample(cases)) EXPECT_EQ(drawn.token, 2);
  // Everything forbidden: the first, as on the CPU.
  cases[0].forbidden = cases[4].forbidden = {0, 1, 2, 3, 4};
  cases[1].logits[3] = NAN;
  cases[2].logits[0] = kInf;
  cases[3].logits[4] = -kInf;
  const std::vector<DrawnToken> drawn = sample(cases);
  EXPECT_EQ(drawn[0].token, 0);
  EXPECT_EQ(drawn[4].token, 0);
  for (size_t i = 1; i < 4; ++i) {
    EXPECT_EQ(drawn[i].token, -1);
    EXPECT_TRUE(std::isnan(drawn[i].logprob));
  }
  const Case alone{.logits = {1.0F}, .params = {.temperature = 1, .top_p = 0.0}};
  EXPECT_EQ(sample({alone})[0].token, 0);
}

}  // namespace
}  // namespace comet::engine
