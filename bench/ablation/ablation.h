// COMET's ablation on this card: one kernel from its plainest form to its whole, feature by
// feature, then the whole without each feature. Caller: `comet bench ablation`. Without the CUDA
// backend calling this is a broken promise.
#pragma once

#include <string>
#include <vector>

#include "bench/gpu_timer.h"

namespace comet::bench {

/// A product y [m, n] = x [m, k] · Wᵀ of w4ax with channel weights and two segments; n and k are
/// multiples of 128.
struct AblationCase {
  int64_t n = 0;
  int64_t k = 0;
  int64_t m = 0;
  double int8_share = 0.25;  // of the blocks of 128 channels, rounded up
};

struct AblationTiming {
  std::string variant;  // what it is
  std::string against;  // the variant of this case that it is compared with; empty: none
  double us = 0;
  int64_t num_ctas = 0;
  bool has_shared_tiles = false;
  bool is_emulated = false;  // s4 products on a card without INT4 tensor cores
  GpuState state;
};

/// Variants in the order in which features come in; weights rotate beyond L2. A variant whose
/// outputs are not those of w4ax_mma is a broken promise.
std::vector<AblationTiming> time_ablation(Context& ctx, const AblationCase& what, uint64_t seed);

}  // namespace comet::bench
