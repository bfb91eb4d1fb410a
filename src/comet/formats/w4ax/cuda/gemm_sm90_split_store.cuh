// The end of gemm_sm90_split.cuh: a CTA's share of the cluster's sums, scaled and stored. Every
// CTA's sums lie in its shared memory, behind a barrier of the cluster. Callers:
// gemm_sm90_split.cu.
#pragma once

#include "comet/device/cuda/prims/cluster.cuh"
#include "comet/formats/w4ax/cuda/gemm_sm90_split.cuh"
#include "comet/formats/w4ax/cuda/gemm_sm90_store.cuh"

namespace comet::formats::w4ax::cuda {

/// Four rows of a token: sums of all teams of CTAs first … last − 1, several reads under way. Each
/// CTA begins with its own, so that not all of them ask the same one at once.
template <class T>
__device__ __forceinline__ int4 split_gather(const int32_t* from, int first, int last,
                                             const SplitWork<T>& work) {
  constexpr int kAtOnce = 8 / T::kTeams;
  const int turn = work.rank >= first && work.rank < last ? work.rank - first : 0;
  int4 total = make_int4(0, 0, 0, 0);
  for (int base = first; base < last; base += kAtOnce) {
    int4 parts[kAtOnce][T::kTeams];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
#pragma unroll
      for (int team = 0; team < T::kTeams; ++team) {
        const int32_t* part = from + team * (T::kSumsBytes / 4);
        parts[i][team] = make_int4(0, 0, 0, 0);
        if (work.num_splits == 1) {
          if (i == 0) parts[i][team] = *reinterpret_cast<const int4*>(part);
        } else if (base + i < last) {
          const int rank = base + i + turn;
          parts[i][team] =
              prims::cluster_load(part, work.cta_of(rank < last ? rank : rank - (last - first)));
        }
      }
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
#pragma unroll
      for (int team = 0; team < T::kTeams; ++team) {
        total.x += parts[i][team].x;
        total.y += parts[i][team].y;
        total.z += parts[i][team].z;
        total.w += parts[i][team].w;
      }
    }
  }
  return total;
}

/// Sums of four rows of a token → outputs, as reference_linear rounds.
template <class T>
__device__ __forceinline__ void split_scale_four(const GemmArgs& args, const SplitEnd<T>& end,
                                                 int token, int row, const int4& low,
                                                 const int4& high) {
  const float2 scales = end.token_scales[token];
  const float scale = T::kTwoSegments || args.int4_blocks == 0 ? scales.y : scales.x;
  const int32_t lows[4] = {low.x, low.y, low.z, low.w};
  const int32_t highs[4] = {high.x, high.y, high.z, high.w};
  float y[4];
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const float value = sm90_value<T>(highs[j]);
    y[j] = T::kTwoSegments ? __fmaf_rn(scale, value, __fmul_rn(scales.x, sm90_value<T>(lows[j])))
                           : __fmul_rn(scale, value);
    y[j] = __fmul_rn(end.scale[row + j], y[j]);
    if (args.bias != nullptr) y[j] = __fadd_rn(y[j], end.bias[row + j]);
  }
  sm90_store_four(args, token * args.out_stride + end.tile.column + row, end.tile.num_rows - row,
                  y);
}

/// This CTA's share of the tile.
template <class T>
__device__ __forceinline__ void split_store(const GemmArgs& args, const SplitWork<T>& work,
                                            const SplitPipeline<T>& pipeline) {
  constexpr int kFours = T::kRows / 4;  // of a token
  const int splits = work.num_splits;
  // CTAs that have blocks of the INT4 segment: the first ones; of the INT8 one: the last ones.
  int low_end = 0;
  int high_begin = 0;
  if constexpr (T::kTwoSegments) {
    low_end = (args.int4_blocks * splits + args.blocks - 1) / args.blocks;
    high_begin = ((args.int4_blocks + 1) * splits + args.blocks - 1) / args.blocks - 1;
  }
  const SplitEnd<T>& end = pipeline.end();
  for (int i = work.rank * T::kConsumers + static_cast<int>(threadIdx.x); i < args.tokens * kFours;
       i += splits * T::kConsumers) {
    const int token = i / kFours;
    const int row = i % kFours * 4;
    // Padding is not read: what a thread has read it also stores, so that its reads are over before
    // it arrives at the last barrier of the cluster.
    if (row >= end.tile.num_rows) continue;
    const int at = token * T::kPitch + row;
    int4 low = make_int4(0, 0, 0, 0);
    if constexpr (T::kTwoSegments) {
      low = split_gather<T>(pipeline.parked() + at, 0, low_end, work);
    }
    const int4 high = split_gather<T>(pipeline.sums() + at, high_begin, splits, work);
    split_scale_four<T>(args, end, token, row, low, high);
  }
}

}  // namespace comet::formats::w4ax::cuda
