// The w4ax product by wgmma (sm_90a) for scales per block: S1, and all modes of group weights:
// plan, launch. Every result has the bits of reference_linear (docs/formats.md §1). Callers:
// backend_cuda.cpp, tests.
#pragma once

#include "comet/formats/w4ax/cuda/gemm_mma.h"

namespace comet::formats::w4ax::cuda {

constexpr int32_t kBlocksOfChain = 8;    // each chain is summed from 0
constexpr int32_t kMostChainSplits = 8;  // CTAs of a cluster

/// How a product is cut: tiles of 128 rows × tile_tokens. Clusters of num_splits CTAs share a
/// tile's chains, or CTAs take whole tiles in turn.
struct ChainsPlan {
  int32_t tile_tokens = 16;  // 16, 32, 64, 128
  int32_t num_splits = 1;
  int32_t num_ctas = 1;
  int64_t workspace_bytes = 0;  // every chain's sums, if several CTAs have them
};

constexpr int chains_ctas_per_sm(int tile_tokens) { return tile_tokens <= 64 ? 2 : 1; }
/// Whether CTAs take whole tiles one after the other; else each has one.
constexpr bool chains_walk(int tile_tokens) { return chains_ctas_per_sm(tile_tokens) == 1; }

/// Of `args` these four read shapes only. Whether there are scales per block:
constexpr bool has_block_chains(const GemmArgs& args) {
  return args.block_scales || args.kind == WeightKind::kGroup;
}
constexpr int32_t num_block_chains(const GemmArgs& args) {
  return (args.blocks + kBlocksOfChain - 1) / kBlocksOfChain;
}
constexpr int32_t num_chain_tiles(const GemmArgs& args, int32_t tile_tokens) {
  return args.num_tiles * ((args.tokens + tile_tokens - 1) / tile_tokens);
}
/// Whether there is such a kernel.
constexpr bool chains_suit(const GemmArgs& args, const ChainsPlan& plan) {
  const int32_t tokens = plan.tile_tokens;
  return has_block_chains(args) &&
         (tokens == 16 || tokens == 32 || tokens == 64 || tokens == 128) && plan.num_splits >= 1 &&
         plan.num_splits <= kMostChainSplits && plan.num_splits <= num_block_chains(args);
}

/// The cut that time_gemm_chains_us() gives the shortest time.
ChainsPlan plan_gemm_chains(const GemmArgs& args, int num_sms);
/// The plan of this tile and these splits.
ChainsPlan cut_gemm_chains(const GemmArgs& args, int32_t tile_tokens, int32_t num_splits,
                           int num_sms);
/// Estimated time of a launch, weights from memory: to compare cuts (gemm_sm90_chains_plan.cpp).
double time_gemm_chains_us(const GemmArgs& args, const ChainsPlan& plan, int num_sms);

/// Clusters of plan.num_splits that the card holds at once.
int count_chains_clusters(const GemmArgs& args, const ChainsPlan& plan);

/// `x_map`: CUtensorMap of the codes as bytes, boxes of 128 bytes × plan.tile_tokens, 128-byte
/// swizzle. `workspace`: plan.workspace_bytes, 16-byte aligned. Throws CudaError.
void launch_gemm_chains(const GemmArgs& args, const ChainsPlan& plan, const void* x_map,
                        void* workspace, CUstream_st* stream);

/// Makes the map and launches (gemm_sm90_chains_cuda.cpp).
void run_gemm_chains(const GemmArgs& args, const ChainsPlan& plan, void* workspace,
                     CUstream_st* stream);

}  // namespace comet::formats::w4ax::cuda
