// Ends of gemm_sm90_chains.cuh: of a chain, whose sums go to the totals or the workspace, and of a
// tile. Units (16 rows × 8 tokens, 16 bytes a lane) lie side by side in both. Callers:
// gemm_sm90_chains.cuh.
#pragma once

#include "comet/device/cuda/prims/cluster.cuh"
#include "comet/formats/cuda/fragment_store.cuh"
#include "comet/formats/w4ax/cuda/chains/gemm_sm90_chains_pipeline.cuh"

namespace comet::formats::w4ax::cuda {

/// A chain's units of a tile in the workspace.
template <class T>
__device__ __forceinline__ float4* chains_slot(float4* workspace, const ChainsGrid& grid, int tile,
                                               int chain) {
  return workspace + (int64_t{chain} * grid.num_tiles() + tile) * (T::kUnits * 32);
}

__device__ __forceinline__ float4 chains_add(const float4& a, const float4& b) {
  return make_float4(__fadd_rn(a.x, b.x), __fadd_rn(a.y, b.y), __fadd_rn(a.z, b.z),
                     __fadd_rn(a.w, b.w));
}

template <class T>
__device__ __forceinline__ float4 chains_four(const float (&acc)[T::kSums], int i) {
  return make_float4(acc[4 * i], acc[4 * i + 1], acc[4 * i + 2], acc[4 * i + 3]);
}

/// A chain of this warp is at its end: its sums are added to the totals if the CTA has the whole
/// tile, else written to the workspace; acc = 0.
template <class T, int kSet>
__device__ __forceinline__ void chains_close(const ChainsGrid& grid,
                                             const ChainsPipeline<T>& pipeline,
                                             const ChainsWork& work, int chain, float4* workspace,
                                             float (&acc)[T::kSums]) {
  const auto at =
      static_cast<int>(prims::value_anew(threadIdx.x)) + kSet * (T::kSetTokens / 8) * T::kConsumers;
  if (grid.num_splits > 1) {
    float4* to = chains_slot<T>(workspace, grid, work.tile, chain) + at;
#pragma unroll
    for (int i = 0; i < T::kSums / 4; ++i) {
      __stcg(to + i * T::kConsumers, chains_four<T>(acc, i));
    }
  } else {
    float4* totals = pipeline.totals() + at;
#pragma unroll
    for (int i = 0; i < T::kSums / 4; ++i) {
      float4& total = totals[i * T::kConsumers];
      const float4 before = chain == 0 ? make_float4(0.0F, 0.0F, 0.0F, 0.0F) : total;
      total = chains_add(before, chains_four<T>(acc, i));
    }
  }
#pragma unroll
  for (int i = 0; i < T::kSums; ++i) acc[i] = 0.0F;
}

/// Where outputs of 16 of a tile's rows go, and what becomes of them before.
struct ChainsRows {
  OutputTile tile;
  int first;       // row of the tile
  float scale[2];  // of this lane's rows, lane / 4 and + 8
  float bias[2];

  template <class T>
  __device__ static ChainsRows of(const GemmArgs& args, int row_tile, int first_row) {
    ChainsRows rows{args.tiles[row_tile], first_row, {1.0F, 1.0F}, {}};
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int row = first_row + static_cast<int>(threadIdx.x) % 32 / 4 + 8 * i;
      if constexpr (!T::kHasRowScales) {
        rows.scale[i] = args.channel_scale[row_tile * kTileRows + row];
      }
      if (args.bias != nullptr && row < rows.tile.num_rows) {
        rows.bias[i] = args.bias[rows.tile.column + row];
      }
    }
    return rows;
  }

  /// A unit; first_token: of all tokens.
  template <class T>
  __device__ __forceinline__ void store(const GemmArgs& args, const float4& total,
                                        int first_token) const {
    float y[4] = {total.x, total.y, total.z, total.w};
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if constexpr (!T::kHasRowScales) y[j] = __fmul_rn(scale[j / 2], y[j]);
      if (args.bias != nullptr) y[j] = __fadd_rn(y[j], bias[j / 2]);
    }
    const int64_t element_bytes = args.out_is_bf16 ? 2 : 4;
    const formats::cuda::FragmentTarget target{
        static_cast<uint8_t*>(args.out) + tile.column * element_bytes, args.out_stride,
        args.out_is_bf16, tile.num_rows, args.tokens};
    target.store(y, first, first_token);
  }
};

/// This warp's rows of a whole tile. A lane reads what it wrote.
template <class T>
__device__ __forceinline__ void chains_store_totals(const GemmArgs& args, const ChainsGrid& grid,
                                                    const ChainsPipeline<T>& pipeline,
                                                    const ChainsWork& work) {
  const Sm90Place place = sm90_place(grid.tiles, work.tile);
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const ChainsRows rows = ChainsRows::of<T>(args, place.row_tile, warp * 16);
  const float4* totals = pipeline.totals() + threadIdx.x;
  const int first_token = place.token_tile * T::kTokens;
#pragma unroll 1
  for (int group = 0; group < T::kGroups && first_token + group * 8 < args.tokens; ++group) {
    rows.store<T>(args, totals[group * T::kConsumers], first_token + group * 8);
  }
}

/// A unit's chains in ascending order.
__device__ __forceinline__ float4 chains_add_all(const float4* from, int64_t step, int num_chains) {
  constexpr int kAtOnce = 4;  // reads under way
  float4 total = make_float4(0.0F, 0.0F, 0.0F, 0.0F);
#pragma unroll 1
  for (int chain = 0; chain < num_chains; chain += kAtOnce) {
    float4 parts[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      if (chain + i < num_chains) parts[i] = __ldcg(from + (chain + i) * step);
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      if (chain + i < num_chains) total = chains_add(total, parts[i]);
    }
  }
  return total;
}

/// Every CTA of a tile's cluster has written its chains; each adds and stores a share of the units.
template <class T>
__device__ __forceinline__ void chains_join(const GemmArgs& args, const ChainsGrid& grid,
                                            const ChainsWork& work, float4* workspace) {
  prims::cluster_arrive();
  prims::cluster_wait();
  const Sm90Place place = sm90_place(grid.tiles, work.tile);
  const int rank = static_cast<int>(blockIdx.x) % grid.num_splits;
  constexpr int kWarps = T::kConsumers / 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int end = T::kUnits * (rank + 1) / grid.num_splits;
  const int64_t step = int64_t{grid.num_tiles()} * (T::kUnits * 32);
  const float4* from = chains_slot<T>(workspace, grid, work.tile, 0) + threadIdx.x % 32;
#pragma unroll 1
  for (int unit = T::kUnits * rank / grid.num_splits + warp; unit < end; unit += kWarps) {
    const int first_token = place.token_tile * T::kTokens + unit / kWarps * 8;
    if (first_token >= args.tokens) continue;
    const ChainsRows rows = ChainsRows::of<T>(args, place.row_tile, unit % kWarps * 16);
    rows.store<T>(args, chains_add_all(from + unit * 32, step, grid.num_chains), first_token);
  }
}

}  // namespace comet::formats::w4ax::cuda
