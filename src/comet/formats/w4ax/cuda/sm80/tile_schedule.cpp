#include "comet/formats/w4ax/cuda/sm80/tile_schedule.h"

#include <algorithm>
#include <limits>

#include "comet/base/check.h"

namespace comet::formats::w4ax::cuda {
namespace {

constexpr int32_t kLeastSteps = 2;  // of a tile's part, where the tile has twice as many

int64_t num_steps(const TileGrid& grid) { return int64_t{grid.num_tiles} * grid.blocks; }

int64_t tile_cost(const TileGrid& grid, const StepCosts& costs) {
  return int64_t{grid.int4_blocks} * costs.int4 +
         int64_t{grid.blocks - grid.int4_blocks} * costs.int8;
}

/// Of the steps before this one.
int64_t cost_before(const TileGrid& grid, const StepCosts& costs, int64_t step) {
  const int64_t block = step % grid.blocks;
  const int64_t int4_blocks = std::min<int64_t>(block, grid.int4_blocks);
  return step / grid.blocks * tile_cost(grid, costs) + int4_blocks * costs.int4 +
         (block - int4_blocks) * costs.int8;
}

/// The last step before which at most `cost` was spent, moved to the tile's end where that is near.
int64_t step_at(const TileGrid& grid, const StepCosts& costs, int64_t cost) {
  const int64_t tile = cost / tile_cost(grid, costs);
  const int64_t rest = cost % tile_cost(grid, costs);
  const int64_t int4_cost = int64_t{grid.int4_blocks} * costs.int4;
  int64_t block =
      rest < int4_cost ? rest / costs.int4 : grid.int4_blocks + (rest - int4_cost) / costs.int8;
  if (grid.blocks >= 2 * kLeastSteps) {
    if (block < kLeastSteps) block = 0;
    if (block > grid.blocks - kLeastSteps) block = grid.blocks;
  }
  return tile * grid.blocks + block;
}

void check_grid(const TileGrid& grid, int num_ctas) {
  COMET_CHECK(grid.num_tiles > 0 && grid.blocks > 0 && grid.int4_blocks >= 0 &&
                  grid.int4_blocks <= grid.blocks && num_ctas > 0 &&
                  num_steps(grid) <= std::numeric_limits<int32_t>::max(),
              "a schedule of {} tiles of {} blocks, {} of INT4, for {} CTAs", grid.num_tiles,
              grid.blocks, grid.int4_blocks, num_ctas);
}

/// Appends a border unless the share is empty.
void add_border(TileSchedule& schedule, int64_t step) {
  if (step <= schedule.border[schedule.num_ctas]) return;
  schedule.border[++schedule.num_ctas] = static_cast<int32_t>(step);
}

}  // namespace

TileSchedule deal_tiles(const TileGrid& grid, int num_ctas) {
  check_grid(grid, num_ctas);
  const int64_t ctas = std::min({num_ctas, grid.num_tiles, TileSchedule::kMaxCtas});
  TileSchedule schedule;
  for (int64_t cta = 1; cta <= ctas; ++cta) {
    add_border(schedule, grid.num_tiles * cta / ctas * grid.blocks);
  }
  return schedule;
}

TileSchedule share_tiles(const TileGrid& grid, const StepCosts& costs, int num_ctas) {
  check_grid(grid, num_ctas);
  COMET_CHECK(costs.int4 > 0 && costs.int8 > 0, "steps that cost {} and {}", costs.int4,
              costs.int8);
  const int64_t ctas = std::min(num_ctas, TileSchedule::kMaxCtas);
  const int64_t total = tile_cost(grid, costs) * grid.num_tiles;
  TileSchedule schedule;
  for (int64_t cta = 1; cta < ctas; ++cta) {
    add_border(schedule, step_at(grid, costs, total * cta / ctas));
  }
  add_border(schedule, num_steps(grid));
  return schedule;
}

int64_t longest_cost(const TileGrid& grid, const StepCosts& costs, const TileSchedule& schedule) {
  int64_t longest = 0;
  for (int32_t cta = 0; cta < schedule.num_ctas; ++cta) {
    longest = std::max(longest, cost_before(grid, costs, schedule.border[cta + 1]) -
                                    cost_before(grid, costs, schedule.border[cta]));
  }
  return longest;
}

bool has_shared_tiles(const TileGrid& grid, const TileSchedule& schedule) {
  return std::any_of(schedule.border, schedule.border + schedule.num_ctas,
                     [&](int32_t border) { return border % grid.blocks != 0; });
}

}  // namespace comet::formats::w4ax::cuda
