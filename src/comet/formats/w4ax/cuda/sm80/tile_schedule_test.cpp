#include "comet/formats/w4ax/cuda/sm80/tile_schedule.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace comet::formats::w4ax::cuda {
namespace {

constexpr StepCosts kByMma{1, 2};

int64_t total_cost(const TileGrid& grid, const StepCosts& costs) {
  return int64_t{grid.num_tiles} * (int64_t{grid.int4_blocks} * costs.int4 +
                                    int64_t{grid.blocks - grid.int4_blocks} * costs.int8);
}

/// Every step once, no CTA without work.
void expect_complete(const TileGrid& grid, const TileSchedule& schedule, int num_ctas) {
  ASSERT_GE(schedule.num_ctas, 1);
  ASSERT_LE(schedule.num_ctas, num_ctas);
  EXPECT_EQ(schedule.border[0], 0);
  EXPECT_EQ(schedule.border[schedule.num_ctas], grid.num_tiles * grid.blocks);
  for (int32_t cta = 0; cta < schedule.num_ctas; ++cta) {
    EXPECT_LT(schedule.border[cta], schedule.border[cta + 1]) << cta;
  }
}

TEST(TileSchedule, EveryStepBelongsToOneCta) {
  for (const int tiles : {1, 2, 7, 48, 224, 1792}) {
    for (const int blocks : {1, 2, 3, 32, 112}) {
      for (const int int4_blocks : {0, blocks / 2, blocks - 1, blocks}) {
        for (const int ctas : {1, 5, 132, 216, 264, 512}) {
          const TileGrid grid{tiles, blocks, int4_blocks};
          expect_complete(grid, deal_tiles(grid, ctas), ctas);
          expect_complete(grid, share_tiles(grid, kByMma, ctas), ctas);
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

/// 8 INT4 steps cost as much as 4 INT8 steps.
TEST(TileSchedule, AnInt8StepCostsTwoOfInt4) {
  const TileGrid grid{1, 12, 8};
  const TileSchedule by_cost = share_tiles(grid, kByMma, 2);
  ASSERT_EQ(by_cost.num_ctas, 2);
  EXPECT_EQ(by_cost.border[1], 8);
  const TileSchedule by_steps = share_tiles(grid, {1, 1}, 2);
  EXPECT_EQ(by_steps.border[1], 6);
  EXPECT_EQ(longest_cost(grid, kByMma, by_cost), 8);
  EXPECT_EQ(longest_cost(grid, kByMma, by_steps), 10);
}

/// LLaMA-3-8B qkv, 64 tokens: 48 tiles whole leave more than half of an A100's 108 SMs idle.
TEST(TileSchedule, SharesOfTilesLeaveNoCtaIdle) {
  const TileGrid grid{48, 32, 24};
  const TileSchedule whole = deal_tiles(grid, 216);
  EXPECT_EQ(whole.num_ctas, 48);
  EXPECT_FALSE(has_shared_tiles(grid, whole));
  const TileSchedule shared = share_tiles(grid, kByMma, 216);
  EXPECT_EQ(shared.num_ctas, 216);
  EXPECT_TRUE(has_shared_tiles(grid, shared));
  EXPECT_EQ(longest_cost(grid, kByMma, whole), 40);
  // 1,920 / 216 = 8.9, and a border may move by less than two steps of cost 2 at each end.
  EXPECT_LE(longest_cost(grid, kByMma, shared), 13);
}

TEST(TileSchedule, NoCtaHasMuchMoreThanItsShare) {
  for (const TileGrid& grid :
       {TileGrid{224, 32, 24}, TileGrid{64, 224, 168}, TileGrid{1792, 32, 31}}) {
    for (const int ctas : {108, 132, 216, 264}) {
      const TileSchedule shared = share_tiles(grid, kByMma, ctas);
      const int64_t mean = total_cost(grid, kByMma) / ctas;
      EXPECT_LE(longest_cost(grid, kByMma, shared), mean + 5) << grid.num_tiles << " " << ctas;
    }
  }
}

/// A part of one step would cost more to add than to compute.
TEST(TileSchedule, PartsHaveTwoStepsAtLeast) {
  const TileGrid grid{48, 32, 24};
  const TileSchedule shared = share_tiles(grid, kByMma, 216);
  for (int32_t cta = 0; cta <= shared.num_ctas; ++cta) {
    const int block = shared.border[cta] % grid.blocks;
    EXPECT_TRUE(block == 0 || (block >= 2 && block <= grid.blocks - 2)) << block;
  }
}

}  // namespace
}  // namespace comet::formats::w4ax::cuda
