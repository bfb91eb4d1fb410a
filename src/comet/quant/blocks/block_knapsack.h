// The knapsack behind --int8-rule error and kl: how many INT8 blocks each site gets so that the sum
// of losses is small at a given amount of INT8 work. Pure. Callers: block_plan.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace comet::quant {

/// One site: what it loses with n = 0, 1 … losses.size() − 1 INT8 blocks, and the work of a block.
struct BlockCurve {
  std::vector<double> losses;  // at least one, finite
  int64_t block_work = 1;      // multiply-accumulates per token, in any unit that all sites share
};

/// Blocks of every site whose work is at most `budget` ≥ 0, greedily by loss saved per work along
/// the lower convex hull of each curve (a curve that rises counts as flat there); ties go to the
/// earlier site. What no hull step can use is filled with parts of steps, so less than one block of
/// each unfinished site is left over. Within the largest hull step of the optimum.
std::vector<int64_t> choose_blocks(std::span<const BlockCurve> curves, int64_t budget);

}  // namespace comet::quant
