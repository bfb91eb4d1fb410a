// What the models of cuts count with, measured on one card of 132 SMs (H200): packed bytes, the
// start of a launch, memory's rate, and how many clusters fit. Callers: gemm_sm90_split_plan.cpp,
// gemm_sm90_chains_plan.cpp.
#pragma once

#include <algorithm>
#include <cstdint>

namespace comet::formats::w4ax::cuda {

constexpr int64_t kMeasuredSms = 132;
constexpr int64_t kPackedBytes = 8192;  // of a block of a packed tile
constexpr double kLaunchUs = 1.1;
constexpr double kBytesPerUs = 4.1e6;  // from memory
constexpr double kHiddenShare = 0.05;  // of the shorter of copies and products, what still shows

constexpr int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// Clusters of 1 … 8 CTAs that the card holds at once, of one, two or three CTAs on an SM. Of 7,
/// two an SM, 32 fit, but the 32nd waited for the launch before. At least 1.
constexpr int64_t clusters_that_fit(int ctas_per_sm, int num_splits, int64_t num_sms) {
  constexpr int kMeasured[3][8] = {{132, 66, 39, 30, 22, 17, 15, 15},
                                   {264, 132, 79, 62, 47, 39, 31, 30},
                                   {396, 198, 124, 92, 69, 62, 47, 45}};
  const int64_t clusters = kMeasured[ctas_per_sm - 1][num_splits - 1];
  return std::max<int64_t>(1, clusters * num_sms / kMeasuredSms);
}

}  // namespace comet::formats::w4ax::cuda
