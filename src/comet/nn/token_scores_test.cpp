#include "comet/nn/token_scores.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <vector>

namespace comet::nn {
namespace {

TEST(TokenScores, MatchTheDefinitions) {
  const std::array<float, 3> p{std::log(0.5F), std::log(0.25F), std::log(0.25F)};
  const std::array<float, 3> q{3.0F + std::log(0.2F), 3.0F + std::log(0.2F), 3.0F + std::log(0.6F)};
  EXPECT_NEAR(log_sum_exp(p), 0.0, 1e-6);
  EXPECT_NEAR(log_probability(q, 2), std::log(0.6), 1e-6);
  const double want =
      0.5 * std::log(0.5 / 0.2) + 0.25 * std::log(0.25 / 0.2) + 0.25 * std::log(0.25 / 0.6);
  EXPECT_NEAR(kl_divergence(p, q), want, 1e-6);
  EXPECT_EQ(kl_divergence(p, p), 0.0);
}

TEST(TokenScores, LargeLogitsDoNotOverflow) {
  const std::vector<float> logits{3000.0F, 2999.0F, -3000.0F};
  EXPECT_NEAR(log_probability(logits, 0), -std::log1p(std::exp(-1.0)), 1e-6);
  EXPECT_NEAR(log_probability(logits, 2), -6000.0 - std::log1p(std::exp(-1.0)), 1e-3);
}

}  // namespace
}  // namespace comet::nn
