// The w4ax product of at most 64 tokens on sm_90a, K split over the CTAs of a cluster: plan,
// launch. Weights and scales as gemm_sm90.h takes them; every result has the bits of
// reference_linear. Callers: backend_cuda.cpp, tests.
#pragma once

#include <algorithm>

#include "comet/formats/w4ax/cuda/gemm_mma.h"

namespace comet::formats::w4ax::cuda {

constexpr int32_t kMaxSplitTokens = 64;
constexpr int32_t kMaxSplits = 8;  // CTAs of a cluster

/// How a product is cut: tiles of some rows × all tokens, the blocks of each over `num_splits`
/// CTAs.
struct SplitPlan {
  int32_t tile_tokens = 16;  // 16, 32, 64; no fewer than there are
  int32_t num_teams = 1;     // of consumer warpgroups, each for all rows, that take blocks in turn
  int32_t num_splits = 1;    // CTAs of a cluster for a tile; no more than blocks
  int32_t tile_rows = 128;   // 128, or 64: half of a packed tile
  bool is_alone = false;     // a CTA has an SM for itself; half tiles
};

/// Registers of four warpgroups do not do for levels and a border of segments.
constexpr bool split_has_four_groups(WeightKind kind, bool has_two_segments) {
  return kind != WeightKind::kProgressive || !has_two_segments;
}

/// So many blocks' levels have room where a CTA is alone.
constexpr int32_t kMostAloneBlocks = 224;

/// Teams of a CTA alone on its SM: as many as registers allow and pay. With channel weights two
/// teams of 64 tokens come up to memory's rate.
constexpr int32_t split_alone_teams(WeightKind kind, int32_t tile_tokens, bool has_two_segments) {
  if (tile_tokens < 64) return split_has_four_groups(kind, has_two_segments) ? 4 : 3;
  return kind == WeightKind::kProgressive && !has_two_segments ? 3 : 2;
}

constexpr SplitPlan split_alone_plan(const GemmArgs& args, int32_t tile_tokens,
                                     int32_t num_splits) {
  const int32_t teams = split_alone_teams(args.kind, tile_tokens, has_two_segments(args));
  return {tile_tokens, teams, num_splits, 64, true};
}

/// Whether there is such a kernel.
constexpr bool split_suits(const GemmArgs& args, const SplitPlan& plan) {
  const bool has_two = has_two_segments(args);
  const int32_t groups = plan.num_teams * (plan.tile_rows / 64);  // warpgroups
  const bool has_tile = plan.tile_tokens == 16 || plan.tile_tokens == 32 || plan.tile_tokens == 64;
  if (!has_tile || plan.tile_tokens < args.tokens || plan.num_splits < 1 ||
      plan.num_splits > std::min(args.blocks, kMaxSplits)) {
    return false;
  }
  if (plan.is_alone) {
    const bool fits =
        args.kind == WeightKind::kChannel || args.blocks <= kMostAloneBlocks * plan.num_splits;
    return fits && plan.tile_rows == 64 &&
           plan.num_teams == split_alone_teams(args.kind, plan.tile_tokens, has_two);
  }
  // Of channel weights, half tiles of 64 tokens have no kernel that is not alone: it was slower.
  if (args.kind == WeightKind::kChannel && plan.tile_rows == 64 && plan.tile_tokens == 64) {
    return false;
  }
  if (groups == 4) return plan.tile_tokens == 16 && split_has_four_groups(args.kind, has_two);
  return groups == 2;
}

/// CTAs that fit an SM, by registers, where one is not alone; of half tiles two, so that there is
/// room for more stages.
constexpr int split_ctas_per_sm(int tile_rows, int tile_tokens, int num_teams) {
  return tile_rows == 128 && tile_tokens == 16 && num_teams == 1 ? 3 : 2;
}

/// The cut that time_gemm_split_us() gives the shortest time. Both read shapes only; 1 … 64 tokens.
SplitPlan plan_gemm_split(const GemmArgs& args, int num_sms);
/// Estimated time of a launch, weights from memory (gemm_sm90_split_plan.cpp).
double time_gemm_split_us(const GemmArgs& args, const SplitPlan& plan, int num_sms);

/// Clusters that the card holds at once.
int count_split_clusters(const GemmArgs& args, const SplitPlan& plan);

/// `x_map`: CUtensorMap of the codes as bytes, boxes of 128 bytes × plan.tile_tokens, 128-byte
/// swizzle. Needs no workspace. Throws CudaError.
void launch_gemm_split(const GemmArgs& args, const SplitPlan& plan, const void* x_map,
                       CUstream_st* stream);

/// Makes the map and launches (gemm_sm90_cuda.cpp).
void run_gemm_split(const GemmArgs& args, const SplitPlan& plan, CUstream_st* stream);

}  // namespace comet::formats::w4ax::cuda
