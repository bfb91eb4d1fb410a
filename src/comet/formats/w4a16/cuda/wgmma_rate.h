// What limits the loop of the w4a16 wgmma kernel: its parts without copies, rings and barriers, one
// CTA an SM, in clocks. Not part of inference. Callers: wgmma_rate_cuda_test.cpp.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace comet::formats::w4a16_cuda {

/// Of a loop over items of 64 rows × 128 channels a warpgroup. Each adds to the one before, from
/// kItems on.
enum class RatePart : int32_t {
  kRegisters,  // 32 products between waits, A from registers
  kShared,     // likewise, A from shared memory
  kItems,      // 8 products an item in batches as the kernel's, into zeroed sums
  kPromoted,   // and the sums are scaled and added
  kDecoded,    // and fragments are made of nibbles
  kRead,       // and nibbles and scales are read from shared memory
  kBeside,     // kRegisters by the first half of the warpgroups, while the others decode and add
};

struct RateCase {
  int32_t tokens;      // 16, 32, 64 or 128
  int32_t num_groups;  // warpgroups: 1, 2 or 4; of 128 tokens at most 2
  RatePart part;
};

/// Clocks of `num_items` items on every SM, into clocks[CTA] (num_ctas of them).
void launch_wgmma_rate(const RateCase& c, int num_items, int num_ctas, int64_t* clocks,
                       cudaStream_t stream);

}  // namespace comet::formats::w4a16_cuda
