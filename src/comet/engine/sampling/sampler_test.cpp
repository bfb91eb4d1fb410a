#include "comet/engine/sampling/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

#include "comet/base/rng.h"

namespace comet::engine {
namespace {

/// One draw as the definition has it: everything in double, everything sorted.
class Reference {
 public:
  Reference(std::span<const float> logits, const SamplingParams& params,
            std::span<const int32_t> prompt, std::span<const int32_t> output,
            std::span<const int32_t> forbidden)
      : scores_(logits.begin(), logits.end()) {
    for (const int32_t token : forbidden) scores_[token] = -INFINITY;
    for (const auto& [token, bias] : params.logit_bias) scores_[token] += bias;
    std::map<int32_t, int> counts;
    for (const int32_t token : prompt) counts[token] += 0;
    for (const int32_t token : output) counts[token] += 1;
    for (const auto& [token, count] : counts) {
      double& score = scores_[token];
      score = score > 0 ? score / params.repetition_penalty : score * params.repetition_penalty;
      score -= params.frequency_penalty * count;
      score -= count > 0 ? params.presence_penalty : 0.0;
    }
    order_.resize(scores_.size());
    std::iota(order_.begin(), order_.end(), 0);
    std::stable_sort(order_.begin(), order_.end(),
                     [&](int32_t a, int32_t b) { return scores_[a] > scores_[b]; });
    if (params.temperature > 0) cut(params);
  }

  [[nodiscard]] int32_t likeliest() const { return order_.front(); }
  /// Of each token; 0 for those that are cut.
  [[nodiscard]] const std::vector<double>& probabilities() const { return probabilities_; }
  /// How close a cut came to keeping one more or one fewer: where rounding may decide otherwise.
  [[nodiscard]] double margin() const { return margin_; }

 private:
  void cut(const SamplingParams& params) {
    std::vector<double> p(order_.size());
    for (size_t i = 0; i < p.size(); ++i) {
      p[i] = std::exp((scores_[order_[i]] - scores_[order_[0]]) / params.temperature);
    }
    if (params.top_k > 0 && params.top_k < static_cast<int64_t>(p.size())) p.resize(params.top_k);
    normalize(p);
    if (params.top_p < 1) {
      double mass = 0;
      size_t keep = 0;
      while (keep < p.size() && mass < params.top_p) {
        mass += p[keep++];
        margin_ = std::min(margin_, std::abs(mass - params.top_p));
      }
      p.resize(std::max<size_t>(keep, 1));
      normalize(p);
    }
    if (params.min_p > 0) {
      const double floor = params.min_p * p[0];
      for (const double x : p) margin_ = std::min(margin_, std::abs(x - floor) / p[0]);
      while (p.back() < floor) p.pop_back();
      normalize(p);
    }
    probabilities_.assign(scores_.size(), 0.0);
    for (size_t i = 0; i < p.size(); ++i) probabilities_[order_[i]] = p[i];
  }

  static void normalize(std::vector<double>& p) {
    const double sum = std::accumulate(p.begin(), p.end(), 0.0);
    for (double& x : p) x /= sum;
  }

  std::vector<double> scores_;
  std::vector<int32_t> order_;
  std::vector<double> probabilities_;
  double margin_ = 1;
};

struct Case {
  std::vector<float> logits;
  SamplingParams params;
  std::vector<int32_t> prompt, output, forbidden;

  [[nodiscard]] TokenCounts counts() const {
    TokenCounts counts;
    counts.add_prompt(prompt);
    for (const int32_t token : output) counts.add_output(token);
    return counts;
  }
};

Case random_case(Rng& rng) {
  Case c;
  const auto below = [&](uint64_t n) { return static_cast<int32_t>(rng.next_below(n)); };
  const int32_t vocab = 2 + below(rng.next_below(10) == 0 ? 5000 : 60);
  const float spread = std::exp(3 * rng.next_uniform());
  c.logits.resize(vocab);
  for (float& x : c.logits) x = spread * rng.next_normal();
  if (below(3) == 0) {  // ties
    for (float& x : c.logits) x = std::round(x);
  }
  const auto tokens = [&](int32_t most) {
    std::vector<int32_t> list(below(most));
    for (int32_t& token : list) token = below(vocab);
    return list;
  };
  c.prompt = tokens(20);
  c.output = tokens(20);
  if (below(4) == 0) c.forbidden = tokens(std::min(vocab, 3));
  SamplingParams& p = c.params;
  p.temperature = below(6) == 0 ? 0.0 : std::exp(2.0 * rng.next_uniform() - 1.5);
  if (below(2) == 0) p.top_k = 1 + below(vocab + 2);
  if (below(2) == 0) p.top_p = 0.05 + 0.9 * rng.next_uniform();
  if (below(3) == 0) p.min_p = 0.5 * rng.next_uniform();
  if (below(3) == 0) p.repetition_penalty = 0.5 + rng.next_uniform();
  if (below(3) == 0) p.presence_penalty = 2 * rng.next_uniform() - 1;
  if (below(3) == 0) p.frequency_penalty = 2 * rng.next_uniform() - 1;
  if (below(3) == 0) p.logit_bias = {{below(vocab), 3.0F}, {below(vocab), -100.0F}};
  return c;
}

TEST(Sampler, DrawsWhatTheReferenceDraws) {
  SamplerScratch scratch;
  int num_compared = 0;
  for (uint64_t seed = 0; seed < 6000; ++seed) {
    Rng rng(seed);
    Case c = random_case(rng);
    c.params.seed = seed;
    const Reference reference(c.logits, c.params, c.prompt, c.output, c.forbidden);
    const TokenCounts counts = c.counts();
    const SamplePoint point{counts, c.forbidden, seed % 17};
    const int32_t token = sample_token(c.logits, c.params, point, scratch);
    if (c.params.temperature == 0) {
      ASSERT_EQ(token, reference.likeliest()) << seed;
      continue;
    }
    if (reference.margin() < 1e-5) continue;
    ++num_compared;
    // The inverse of the distribution function, in order of id, at the documented draw.
    const double u = static_cast<double>(Rng(seed, 1).bits(seed % 17) >> 11) * 0x1p-53;
    double before = 0;
    for (int32_t i = 0; i < token; ++i) before += reference.probabilities()[i];
    ASSERT_GT(reference.probabilities()[token], 0) << seed;
    ASSERT_GT(u, before - 1e-5) << seed;
    ASSERT_LT(u, before + reference.probabilities()[token] + 1e-5) << seed;
  }
  EXPECT_GT(num_compared, 3000);
}

TEST(Sampler, FrequenciesFollowTheDistribution) {
  // Pearson's χ² over 40,000 draws with fixed seeds; the bound is the 1e-4 tail of each count of
  // degrees of freedom (Wilson, Hilferty 1931).
  SamplerScratch scratch;
  const TokenCounts counts;
  for (const SamplingParams& base :
       std::vector<SamplingParams>{{.temperature = 1.0},
                                   {.temperature = 0.6, .top_k = 9},
                                   {.temperature = 1.5, .top_p = 0.8},
                                   {.temperature = 1.0, .min_p = 0.1}}) {
    Rng rng(99);
    std::vector<float> logits(24);
    for (float& x : logits) x = rng.next_normal();
    const Reference reference(logits, base, {}, {}, {});
    constexpr int kDraws = 40000;
    std::vector<double> observed(logits.size());
    for (int i = 0; i < kDraws; ++i) {
      SamplingParams params = base;
      params.seed = static_cast<uint64_t>(i / 200);  // over seeds and over positions
      const SamplePoint point{counts, {}, static_cast<uint64_t>(i % 200)};
      observed[sample_token(logits, params, point, scratch)] += 1;
    }
    double chi2 = 0;
    double freedom = -1;
    for (size_t i = 0; i < logits.size(); ++i) {
      const double expected = reference.probabilities()[i] * kDraws;
      if (expected == 0) {
        EXPECT_EQ(observed[i], 0);
        continue;
      }
      chi2 += (observed[i] - expected) * (observed[i] - expected) / expected;
      freedom += 1;
    }
    const double spread = std::sqrt(2 / (9 * freedom));
    EXPECT_LT(chi2, freedom * std::pow(1 - 2 / (9 * freedom) + 3.72 * spread, 3))
        << "temperature " << base.temperature << " top_k " << base.top_k << " top_p " << base.top_p;
  }
}

TEST(Sampler, TheDrawDependsOnSeedAndPositionAlone) {
  const std::vector<float> logits(1000, 0.5F);
  const SamplingParams params{.temperature = 1.0, .seed = 5};
  const TokenCounts counts;
  SamplerScratch used;
  SamplingParams other{.temperature = 0.7, .top_k = 30, .seed = 9};
  sample_token(logits, other, {counts, {}, 3}, used);
  SamplerScratch unused;
  for (uint64_t position = 0; position < 50; ++position) {
    EXPECT_EQ(sample_token(logits, params, {counts, {}, position}, used),
              sample_token(logits, params, {counts, {}, position}, unused));
  }
  std::map<int32_t, int> tokens;
  for (uint64_t position = 0; position < 50; ++position) {
    ++tokens[sample_token(logits, params, {counts, {}, position}, used)];
  }
  EXPECT_GT(tokens.size(), 40U);
}

TEST(Sampler, ExtremesAreSafe) {
  SamplerScratch scratch;
  const TokenCounts counts;
  const std::vector<float> logits{-3e38F, 1.0F, 3e38F, 2.0F, 1.0F};
  for (const double temperature : {0.0, 1e-30, 1e-6, 1e-4, 1.0}) {
    const SamplingParams params{.temperature = temperature};
    EXPECT_EQ(sample_token(logits, params, {counts}, scratch), 2) << temperature;
  }
  for (const double temperature : {1e5, 1e6}) {
    for (uint64_t i = 0; i < 100; ++i) {
      const SamplingParams params{.temperature = temperature, .top_k = 4, .top_p = 0.99};
      const std::vector<float> mild{1, 2, 3, 4, 5};
      const int32_t token = sample_token(mild, params, {counts, {}, i}, scratch);
      EXPECT_GE(token, 1);
    }
  }
  const std::vector<int32_t> all{0, 1, 2, 3, 4, -7, 99};
  EXPECT_EQ(sample_token(logits, {.temperature = 1}, {counts, all}, scratch), 0);
  EXPECT_EQ(
      sample_token(std::vector<float>{1.0F}, {.temperature = 1, .top_p = 0.0}, {counts}, scratch),
      0);
  EXPECT_EQ(sample_token(logits, {}, {counts, std::vector<int32_t>{2}}, scratch), 3);
}

}  // namespace
}  // namespace comet::engine
