// TileSchedule, COMET's fine-grained scheduling of SMs: which steps of a product each CTA runs,
// decided on the host by what steps cost; the kernel obeys. A step is one block of 128 channels of
// one output tile; steps are numbered tile · blocks + block, and each CTA has a contiguous range of
// them, whatever the borders of tiles. Callers: gemm_sm80_plan.cpp, bench/ablation, tests. Passed
// to kernels by value.
#pragma once

#include <cstdint>

namespace comet::formats::w4ax::cuda {

/// Output tiles, each of `blocks` steps: int4_blocks of INT4 codes, then those of INT8.
struct TileGrid {
  int32_t num_tiles = 0;
  int32_t blocks = 0;
  int32_t int4_blocks = 0;
};

/// Of one step, in any unit. Where INT4 tensor cores set the pace an INT8 step costs twice as much;
/// where reading weights does, both cost the same.
struct StepCosts {
  int32_t int4 = 1;
  int32_t int8 = 2;
};

struct TileSchedule {
  static constexpr int32_t kMaxCtas = 512;

  int32_t num_ctas = 0;
  /// CTA i runs steps border[i] … border[i + 1] − 1, at least one; border[0] = 0, and
  /// border[num_ctas] is the number of all steps.
  int32_t border[kMaxCtas + 1] = {};
};

/// Whole tiles dealt out evenly to at most num_ctas CTAs: the naive mapping.
TileSchedule deal_tiles(const TileGrid& grid, int num_ctas);

/// Equal shares of the total cost for at most num_ctas CTAs: tiles are cut where a share ends, but
/// not within two steps of their own ends.
TileSchedule share_tiles(const TileGrid& grid, const StepCosts& costs, int num_ctas);

/// Of the CTA that has most.
int64_t longest_cost(const TileGrid& grid, const StepCosts& costs, const TileSchedule& schedule);

/// Whether a tile lies in two CTAs.
bool has_shared_tiles(const TileGrid& grid, const TileSchedule& schedule);

}  // namespace comet::formats::w4ax::cuda
