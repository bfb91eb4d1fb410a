// plan_gemm_split(): what it takes fits what launches it, on every shape.
#include <gtest/gtest.h>

#include <algorithm>

#include "comet/formats/w4ax/cuda/split/gemm_sm90_split.h"

namespace comet::formats::w4ax::cuda {
namespace {

void check_fits(const GemmArgs& args, int num_sms) {
  const SplitPlan plan = plan_gemm_split(args, num_sms);
  EXPECT_TRUE(split_suits(args, plan));
  EXPECT_GT(time_gemm_split_us(args, plan, num_sms), 0);
}

/// Every share of INT8 that differs, both kinds of weights.
void check_kinds(GemmArgs args, int num_sms) {
  for (const int32_t int4_blocks : {0, args.blocks - 1}) {
    for (const WeightKind kind : {WeightKind::kProgressive, WeightKind::kChannel}) {
      args.kind = kind;
      args.int4_blocks = int4_blocks;
      check_fits(args, num_sms);
    }
  }
}

TEST(W4axSplitPlan, FitsOnEveryShape) {
  for (const int num_sms : {1, 78, 114, 132}) {
    for (const int32_t num_tiles : {1, 3, 32, 65, 112, 500}) {
      for (const int32_t blocks : {1, 3, 40, 224, 225}) {
        for (const int32_t tokens : {1, 16, 17, 33, 64}) {
          GemmArgs args;
          args.num_tiles = num_tiles;
          args.blocks = blocks;
          args.tokens = tokens;
          check_kinds(args, num_sms);
        }
      }
    }
  }
}

/// A product of few tiles is split, so that most SMs have work; one of many is not.
TEST(W4axSplitPlan, SplitsWhereTilesAreFew) {
  GemmArgs args;
  args.kind = WeightKind::kProgressive;
  args.blocks = 32;
  args.tokens = 16;
  args.num_tiles = 32;
  const SplitPlan plan = plan_gemm_split(args, 132);
  EXPECT_GE(args.num_tiles * 128 / plan.tile_rows * plan.num_splits, 96);
  args.num_tiles = 4000;
  EXPECT_EQ(plan_gemm_split(args, 132).num_splits, 1);
}

}  // namespace
}  // namespace comet::formats::w4ax::cuda
