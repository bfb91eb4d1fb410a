#include "comet/engine/sampling/logprobs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "comet/base/rng.h"

namespace comet::engine {
namespace {

TEST(Logprobs, MatchTheDefinition) {
  for (const size_t vocab : {1U, 5U, 63U, 64U, 1000U, 8193U}) {
    Rng rng(vocab);
    std::vector<float> logits(vocab);
    for (float& x : logits) x = 6.0F * rng.next_normal();
    for (size_t i = 0; i < vocab; i += 7) logits[i] = std::round(logits[i]);  // ties
    const double max = *std::max_element(logits.begin(), logits.end());
    double sum = 0;
    for (const float x : logits) sum += std::exp(x - max);
    const double total = max + std::log(sum);

    std::vector<int32_t> order(vocab);
    for (size_t i = 0; i < vocab; ++i) order[i] = static_cast<int32_t>(i);
    std::stable_sort(order.begin(), order.end(),
                     [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
    const auto token = static_cast<int32_t>(vocab / 2);
    for (const int64_t num_top : {0, 1, 20}) {
      const PositionLogprobs result = position_logprobs(logits, token, num_top);
      EXPECT_EQ(result.chosen.token, token);
      EXPECT_NEAR(result.chosen.logprob, logits[token] - total, 2e-6 * std::abs(total) + 2e-6);
      ASSERT_EQ(result.top.size(), std::min<size_t>(num_top, vocab));
      for (size_t i = 0; i < result.top.size(); ++i) {
        EXPECT_EQ(result.top[i].token, order[i]);
        EXPECT_NEAR(result.top[i].logprob, logits[order[i]] - total, 2e-5);
      }
    }
  }
}

TEST(Logprobs, LargeLogitsDoNotOverflow) {
  const PositionLogprobs result = position_logprobs(std::vector<float>{3e38F, -3e38F, 1.0F}, 0, 3);
  EXPECT_EQ(result.chosen.logprob, 0.0F);
  EXPECT_EQ(result.top[0].token, 0);
}

}  // namespace
}  // namespace comet::engine
