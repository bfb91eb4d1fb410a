// The wide tiles of the w4ax product on sm_90a, for more than 64 tokens: which there are, launch.
// Results as of gemm_sm90.h. Callers: plans, run_gemm_sm90(), tests.
#pragma once

#include "comet/formats/w4ax/cuda/gemm_sm90.h"

namespace comet::formats::w4ax::cuda {

/// INT8 blocks behind an INT4 segment that tiles of 256 rows or 256 tokens take: no more, no fewer;
/// the stage is held until the tile is stored.
constexpr int kSm90MostHeld = 1;

/// CTAs of a cluster at most, that share a tile's blocks: 1 where no kernel does that.
constexpr int sm90_most_splits(int tile_rows, int tile_tokens) {
  if (tile_rows == 256 && tile_tokens == 64) return 8;
  return tile_rows == 128 && tile_tokens == 256 ? 4 : 1;
}

/// Whether there is such a tile for this product: whole, or its blocks shared by a cluster.
constexpr bool sm90_wide_suits(const GemmArgs& args, const Sm90Plan& plan) {
  const bool has_two = has_two_segments(args);
  const bool is_held = !has_two || args.blocks - args.int4_blocks <= kSm90MostHeld;
  const bool is_split = plan.num_splits > 1;
  if (plan.num_splits < 1) return false;
  if (plan.num_splits > sm90_most_splits(plan.tile_rows, plan.tile_tokens)) return false;
  if (plan.tile_rows == 256) return (plan.tile_tokens == 64 || plan.tile_tokens == 128) && is_held;
  if (plan.tile_rows != 128) return false;
  if (plan.tile_tokens == 256) return is_split ? is_held : !has_two;
  // Registers do not do for levels and two sets of sums of 128 tokens.
  if (plan.tile_tokens == 128) return !has_two || args.kind == WeightKind::kChannel;
  return plan.tile_tokens == 64;
}

/// `plan`: is_wide, all tiles whole. Throws CudaError.
void launch_gemm_sm90_wide(const GemmArgs& args, const Sm90Plan& plan, const Sm90Maps& maps,
                           CUstream_st* stream);

/// Likewise, of a plan with several splits (gemm_sm90_cluster.cu).
void launch_gemm_sm90_cluster(const GemmArgs& args, const Sm90Plan& plan, const Sm90Maps& maps,
                              CUstream_st* stream);

/// Clusters of plan.num_splits that the card holds at once.
int count_sm90_clusters(const GemmArgs& args, const Sm90Plan& plan);

}  // namespace comet::formats::w4ax::cuda
