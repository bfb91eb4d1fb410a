#include "comet/engine/sampling/logprobs.h"

#include <algorithm>
#include <cmath>

#include "comet/base/check.h"
#include "comet/device/cpu/simd.h"

namespace comet::engine {
namespace {

constexpr size_t kBlock = 64;  // summed in FP32 lanes, the blocks in double

/// The num_top largest in order; ties by id.
std::vector<TokenLogprob> largest(std::span<const float> logits, int64_t num_top) {
  std::vector<TokenLogprob> top;
  const auto count = std::min<size_t>(num_top, logits.size());
  if (count == 0) return top;
  top.reserve(count + 1);
  for (size_t i = 0; i < logits.size(); ++i) {
    const float logit = logits[i];
    if (top.size() == count && logit <= top.back().logprob) continue;
    const auto at = std::find_if(top.begin(), top.end(),
                                 [&](const TokenLogprob& t) { return t.logprob < logit; });
    top.insert(at, {static_cast<int32_t>(i), logit});
    if (top.size() > count) top.pop_back();
  }
  return top;
}

}  // namespace

double log_sum_exp(std::span<const float> logits) {
  using simd::kLanes;
  static_assert(kBlock % kLanes == 0);
  COMET_CHECK(!logits.empty());
  const float max = *std::max_element(logits.begin(), logits.end());
  const simd::F32 shift = simd::splat(max);
  double total = 0;
  size_t i = 0;
  for (; i + kBlock <= logits.size(); i += kBlock) {
    simd::F32 sum = simd::splat(0.0F);
    for (size_t j = 0; j < kBlock; j += kLanes) {
      sum = simd::add(sum, simd::exp(simd::sub(simd::load(logits.data() + i + j), shift)));
    }
    total += simd::reduce_add(sum);
  }
  for (; i < logits.size(); ++i) total += std::exp(static_cast<double>(logits[i]) - max);
  return max + std::log(total);
}

PositionLogprobs position_logprobs(std::span<const float> logits, int32_t token, int64_t num_top) {
  const double total = log_sum_exp(logits);
  const auto logprob = [&](float logit) { return static_cast<float>(logit - total); };
  PositionLogprobs result;
  result.chosen = {token, logprob(logits[token])};
  result.top = largest(logits, num_top);
  for (TokenLogprob& entry : result.top) entry.logprob = logprob(entry.logprob);
  return result;
}

}  // namespace comet::engine
