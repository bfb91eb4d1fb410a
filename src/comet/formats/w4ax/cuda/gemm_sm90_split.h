// The w4ax product of at most 64 tokens on sm_90a, K split over the CTAs of a cluster: plan,
// launch. Weights and scales as gemm_sm90.h takes them; every result has the bits of
// reference_linear. Callers: backend_cuda.cpp, tests.
#pragma once

#include "comet/formats/w4ax/cuda/gemm_mma.h"

namespace comet::formats::w4ax::cuda {

constexpr int32_t kMaxSplitTokens = 64;
constexpr int32_t kMaxSplits = 8;  // CTAs of a cluster

/// How a product is cut: tiles of 128 rows × all tokens, the blocks of each over `num_splits` CTAs.
struct SplitPlan {
  int32_t tile_tokens = 16;  // 16, 32, 64; no fewer than there are
  int32_t num_pairs = 1;     // of consumer warpgroups, that take blocks in turn; 2 with 16 tokens
  int32_t num_splits = 1;    // CTAs of a cluster; no more than blocks
};

/// Registers of two pairs do not do for levels and a border of segments.
constexpr bool split_has_two_pairs(WeightKind kind, bool has_two_segments) {
  return kind != WeightKind::kProgressive || !has_two_segments;
}

/// CTAs that fit an SM, by registers.
constexpr int split_ctas_per_sm(int tile_tokens, int num_pairs) {
  return tile_tokens == 16 && num_pairs == 1 ? 3 : 2;
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
