// The end of gemm_wgmma.cuh: sums of all pairs and CTAs of a cluster, which lie in shared memory,
// are added in the order of their ranks, so that results do not depend on timing; bias; stores of
// whole rows of tokens. Callers: gemm_wgmma.cu.
#pragma once

#include "comet/device/cuda/prims/cluster.cuh"
#include "comet/formats/cuda/add_four.cuh"
#include "comet/formats/w4a16/cuda/gemm_wgmma.cuh"

namespace comet::formats::w4a16_cuda::wgmma {

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

/// All threads of all CTAs of a cluster; behind it their sums are there.
__device__ __forceinline__ void sync_sums(int num_splits) {
  if (num_splits > 1) {
    prims::cluster_fence_shared();
    prims::cluster_arrive_relaxed();
    prims::cluster_wait();
  } else {
    __syncthreads();
  }
}

/// No CTA ends before the others have read its sums. Reads of a thread are over when it arrives,
/// since what it stored depends on them; its stores need not be.
__device__ __forceinline__ void end_reads(int num_splits) {
  if (num_splits == 1) return;
  prims::cluster_arrive_relaxed();
  prims::cluster_wait();
}

/// Four rows of a token, of a tile that this CTA has alone.
template <class T>
__device__ __forceinline__ float4 own_four(const float* from) {
  float4 total = make_float4(0.0F, 0.0F, 0.0F, 0.0F);
#pragma unroll
  for (int turn = 0; turn < T::kTurns; ++turn) {
    formats::cuda::add_four(total, *reinterpret_cast<const float4*>(from + turn * T::kTileFloats));
  }
  return total;
}

/// The same of a cluster's tile: all reads are under way before the first is added.
template <class T>
__device__ __forceinline__ float4 gather_four(const float* from, int num_splits) {
  float4 parts[kMaxSplits][T::kTurns];
#pragma unroll
  for (int split = 0; split < kMaxSplits; ++split) {
#pragma unroll
    for (int turn = 0; turn < T::kTurns; ++turn) {
      parts[split][turn] = make_float4(0.0F, 0.0F, 0.0F, 0.0F);
      if (split >= num_splits) continue;
      parts[split][turn] =
          prims::cluster_load(from + turn * T::kTileFloats, static_cast<uint32_t>(split));
    }
  }
  float4 total = make_float4(0.0F, 0.0F, 0.0F, 0.0F);
#pragma unroll
  for (int split = 0; split < kMaxSplits; ++split) {
#pragma unroll
    for (int turn = 0; turn < T::kTurns; ++turn) {
      if (split < num_splits) formats::cuda::add_four(total, parts[split][turn]);
    }
  }
  return total;
}

/// This CTA's share of the cluster's tile.
template <class T>
__device__ __forceinline__ void store_share(const Params& p, const float* tile, const Work& work) {
  constexpr int kColumns = T::kRows / 4;
  const StoreTarget target = store_target(p.args);
  const int first_token = work.tile.token_tile * T::kTokens;
  const int num_tokens = min(T::kTokens, p.args.rows - first_token);
  for (int i = work.rank * T::kConsumers + static_cast<int>(threadIdx.x); i < num_tokens * kColumns;
       i += p.num_splits * T::kConsumers) {
    const int row = work.tile.row_tile * T::kRows + i % kColumns * 4;
    if (row >= target.n) continue;  // what is read is stored: end_reads()
    const float* from = tile + i / kColumns * T::kTilePitch + i % kColumns * 4;
    const float4 sums = p.num_splits == 1 ? own_four<T>(from) : gather_four<T>(from, p.num_splits);
    store_four(target, first_token + i / kColumns, row, sums);
  }
}

#endif

}  // namespace comet::formats::w4a16_cuda::wgmma
