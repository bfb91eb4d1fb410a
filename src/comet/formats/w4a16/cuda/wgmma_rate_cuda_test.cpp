// Clocks of a block (128 rows × 128 channels) of the w4a16 wgmma kernel's loop on an SM, part by
// part, printed: which part holds the loop above its floor of 8 · tokens clocks. Asserts only that
// no part runs above the tensor cores' rate, which would be a fault of the measurement.
#include "comet/formats/w4a16/cuda/wgmma_rate.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <vector>

#include "comet/device/cuda/cuda_check.h"
#include "support/gpu.h"

namespace comet::formats::w4a16_cuda {
namespace {

constexpr int kItems = 512;
constexpr const char* kNames[] = {"registers", "shared", "items", "promoted",
                                  "decoded",   "read",   "beside"};

/// Of the slowest SM, the best of three.
double clocks_of_block(const RateCase& c, int num_sms, cudaStream_t stream) {
  const testing::DeviceArray<int64_t> clocks(static_cast<size_t>(num_sms));
  int64_t best = 0;
  for (int i = 0; i < 3; ++i) {
    launch_wgmma_rate(c, kItems, num_sms, clocks.get(), stream);
    COMET_CUDA(cudaStreamSynchronize(stream));
    const std::vector<int64_t> all = clocks.to_host();
    const int64_t slowest = *std::max_element(all.begin(), all.end());
    if (best == 0 || slowest < best) best = slowest;
  }
  const int num_multiply = c.part == RatePart::kBeside ? c.num_groups / 2 : c.num_groups;
  return static_cast<double>(best) / kItems * 2 / num_multiply;  // a block is two items
}

TEST(W4a16WgmmaRateCuda, PartsOfTheLoop) {
  const auto gpu = testing::open_gpu();
  if (!gpu || gpu->sm != 90) GTEST_SKIP() << "no GPU of sm_90";
  for (const int32_t tokens : {16, 32, 64, 128}) {
    for (const int32_t num_groups : {1, 2, 4}) {
      if (tokens == 128 && num_groups == 4) continue;
      std::printf("%3d tokens, %d warpgroups, clocks a block (floor %d):", tokens, num_groups,
                  8 * tokens);
      for (int part = 0; part < 7; ++part) {
        if (part == static_cast<int>(RatePart::kBeside) && num_groups == 1) continue;
        const RateCase c{tokens, num_groups, static_cast<RatePart>(part)};
        const double block = clocks_of_block(c, gpu->num_sms, gpu->stream);
        std::printf("  %s %.0f", kNames[part], block);
        EXPECT_GE(block, 8 * tokens * 0.98) << kNames[part];
      }
      std::printf("\n");
    }
  }
}

}  // namespace
}  // namespace comet::formats::w4a16_cuda
