// The end of gemm_sm90_split.cuh: a CTA's share of the cluster's sums, scaled and stored. Every
// CTA's sums lie in its shared memory, behind a barrier of the cluster. Callers:
// gemm_sm90_split.cu.
#pragma once

#include "comet/device/cuda/prims/cluster.cuh"
#include "comet/formats/cuda/add_four.cuh"
#include "comet/formats/cuda/fragment_store.cuh"
#include "comet/formats/w4ax/cuda/gemm_sm90_store.cuh"
#include "comet/formats/w4ax/cuda/split/gemm_sm90_split.cuh"

namespace comet::formats::w4ax::cuda {

/// CTAs of the cluster that have blocks of a segment: first … last − 1.
struct SplitRanks {
  int first;
  int last;
  __device__ __forceinline__ bool has(int rank) const { return rank >= first && rank < last; }
};

/// Of the INT4 (0) or of the INT8 (1, or the only) segment.
template <class T, int kSegment>
__device__ __forceinline__ SplitRanks split_ranks(const SplitEnd<T>& end, int num_splits) {
  if (!T::kTwoSegments) return {0, num_splits};
  return kSegment == 0 ? SplitRanks{0, end.low_end} : SplitRanks{end.high_begin, num_splits};
}

/// This lane's place in a unit of a team's sums.
template <class T>
__device__ __forceinline__ int32_t* split_part(int32_t* area, int team, int unit) {
  return area + ((team * T::kUnits + unit) * 32 + static_cast<int>(threadIdx.x) % 32) * 4;
}

/// A unit's sums of all teams of this CTA.
template <class T>
__device__ __forceinline__ int4 split_own_sums(int32_t* area, int unit) {
  int4 sums = *reinterpret_cast<const int4*>(split_part<T>(area, 0, unit));
#pragma unroll
  for (int team = 1; team < T::kTeams; ++team) {
    formats::cuda::add_four(sums, *reinterpret_cast<const int4*>(split_part<T>(area, team, unit)));
  }
  return sums;
}

/// Before the cluster's barrier: the teams' sums of what other CTAs store become one. All
/// consumers.
template <class T>
__device__ __forceinline__ void split_add_teams(const SplitWork<T>& work,
                                                const SplitPipeline<T>& pipeline) {
  if (!T::kAddsTeams || work.num_splits == 1) return;
  const SplitEnd<T>& end = pipeline.end();
  const bool has_low = T::kTwoSegments && split_ranks<T, 0>(end, work.num_splits).has(work.rank);
  const bool has_high = split_ranks<T, 1>(end, work.num_splits).has(work.rank);
  const int num_own = end.unit_end - end.unit_begin;
  prims::named_barrier_sync(1, T::kConsumers);
  for (int i = static_cast<int>(threadIdx.x) / 32; i < T::kUnits - num_own;
       i += T::kConsumers / 32) {
    const int unit = i < end.unit_begin ? i : i + num_own;
    const auto add = [&](int32_t* area) {
      *reinterpret_cast<int4*>(split_part<T>(area, 0, unit)) = split_own_sums<T>(area, unit);
    };
    if (has_low) add(pipeline.parked());
    if (has_high) add(pipeline.sums());
  }
}

/// A batch of units' sums.
template <class T>
struct SplitSums {
  int4 units[T::kBatch] = {};
};

/// A batch's sums of one segment from the other CTAs of a cluster, several reads under way.
template <class T>
struct SplitOthers {
  static constexpr int kTeams = T::kAddsTeams ? 1 : T::kTeams;
  // As many CTAs as registers allow.
  static constexpr int kFits = (T::kTwoSegments || T::kThreads > 320 ? 2 : 4) / kTeams;
  static constexpr int kAtOnce = T::kIsAlone || kFits == 0 ? 1 : kFits;
  SplitSums<T> parts[kAtOnce][kTeams];

  /// Those kAtOnce that follow `others` of them behind this CTA.
  __device__ __forceinline__ void read(int32_t* area, const SplitWork<T>& work,
                                       const SplitRanks& ranks, int unit, int others) {
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      int rank = work.rank + 1 + others + i;
      rank -= rank >= work.num_splits ? work.num_splits : 0;
      if (others + i + 1 >= work.num_splits || !ranks.has(rank)) continue;
#pragma unroll
      for (int team = 0; team < kTeams; ++team) {
#pragma unroll
        for (int b = 0; b < T::kBatch; ++b) {
          parts[i][team].units[b] =
              prims::cluster_load(split_part<T>(area, team, unit + b), static_cast<uint32_t>(rank));
        }
      }
    }
  }

  __device__ __forceinline__ void add_to(SplitSums<T>& sums) const {
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
#pragma unroll
      for (int team = 0; team < kTeams; ++team) {
#pragma unroll
        for (int b = 0; b < T::kBatch; ++b)
          formats::cuda::add_four(sums.units[b], parts[i][team].units[b]);
      }
    }
  }
};

/// Sums of a batch that begins with `unit` → outputs, as reference_linear rounds.
template <class T>
__device__ __forceinline__ void split_store_batch(const GemmArgs& args, const SplitEnd<T>& end,
                                                  int unit, const SplitSums<T>& low,
                                                  const SplitSums<T>& high) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int first_row = unit / T::kGroups * 16;
  const int first_token = unit % T::kGroups * 8;
  const float* row_scale = end.scale + first_row + lane / 4;
  const float* row_bias = end.bias + first_row + lane / 4;
  float y[T::kBatch * 4];
#pragma unroll
  for (int b = 0; b < T::kBatch; ++b) {
    const int token = first_token + 8 * b + lane % 4 * 2;
    const auto two = *reinterpret_cast<const float4*>(end.token_scales + token);
    const float2 scales[2] = {{two.x, two.y}, {two.z, two.w}};  // of a token: INT4, INT8
    const int4& low_sums = low.units[b];
    const int4& high_sums = high.units[b];
    const int32_t lows[4] = {low_sums.x, low_sums.y, low_sums.z, low_sums.w};
    const int32_t highs[4] = {high_sums.x, high_sums.y, high_sums.z, high_sums.w};
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const float2 of_token = scales[j % 2];
      const float scale = T::kTwoSegments || args.int4_blocks == 0 ? of_token.y : of_token.x;
      float value = sm90_value<T>(highs[j]);
      value = T::kTwoSegments
                  ? __fmaf_rn(scale, value, __fmul_rn(of_token.x, sm90_value<T>(lows[j])))
                  : __fmul_rn(scale, value);
      y[4 * b + j] = __fmul_rn(row_scale[j / 2 * 8], value);
    }
  }
  if (args.bias != nullptr) {
#pragma unroll
    for (int j = 0; j < T::kBatch * 4; ++j) y[j] = __fadd_rn(y[j], row_bias[j % 4 / 2 * 8]);
  }
  const int64_t element_bytes = args.out_is_bf16 ? 2 : 4;
  const formats::cuda::FragmentTarget target{
      static_cast<uint8_t*>(args.out) + end.tile.column * element_bytes, args.out_stride,
      args.out_is_bf16, end.tile.num_rows, args.tokens};
  target.store(y, first_row, first_token);
}

/// This CTA's share of the tile: each of its warps has some batches. What a warp has read it also
/// stores, so that its reads are over before it arrives at the last barrier of the cluster.
template <class T>
__device__ __forceinline__ void split_store(const GemmArgs& args, const SplitWork<T>& work,
                                            const SplitPipeline<T>& pipeline) {
  using Others = SplitOthers<T>;
  const SplitEnd<T>& end = pipeline.end();
  const SplitRanks low_ranks = split_ranks<T, 0>(end, work.num_splits);
  const SplitRanks high_ranks = split_ranks<T, 1>(end, work.num_splits);
  constexpr int kStep = T::kConsumers / 32 * T::kBatch;
  int unit = end.unit_begin + static_cast<int>(threadIdx.x) / 32 * T::kBatch;
  for (; unit < end.unit_end; unit += kStep) {
    SplitSums<T> low;
    SplitSums<T> high;
    for (int others = 0; others == 0 || others + 1 < work.num_splits; others += Others::kAtOnce) {
      Others of_low;
      Others of_high;
      of_high.read(pipeline.sums(), work, high_ranks, unit, others);
      if (T::kTwoSegments) of_low.read(pipeline.parked(), work, low_ranks, unit, others);
      if (others == 0) {
#pragma unroll
        for (int b = 0; b < T::kBatch; ++b) {
          if (high_ranks.has(work.rank)) {
            high.units[b] = split_own_sums<T>(pipeline.sums(), unit + b);
          }
          if (T::kTwoSegments && low_ranks.has(work.rank)) {
            low.units[b] = split_own_sums<T>(pipeline.parked(), unit + b);
          }
        }
      }
      of_high.add_to(high);
      if (T::kTwoSegments) of_low.add_to(low);
    }
    split_store_batch<T>(args, end, unit, low, high);
  }
}

}  // namespace comet::formats::w4ax::cuda
