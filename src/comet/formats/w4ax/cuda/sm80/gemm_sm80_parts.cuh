// Tiles that CTAs of a TileSchedule share: each leaves int32 sums in the workspace and counts
// itself in; the last one adds the others'. Nobody waits, and any order gives the same bits.
// Caller: gemm_sm80.cuh.
#pragma once

#include "comet/formats/w4ax/cuda/sm80/gemm_sm80_codes.cuh"
#include "comet/formats/w4ax/cuda/sm80/tile_schedule.h"

namespace comet::formats::w4ax::cuda {

/// A part of a tile, in the CTA that has it.
struct TilePart {
  const GemmArgs& args;
  const TileSchedule& schedule;
  const Place& at;
  int tile_step;  // of the tile's block 0
  void* parts;
  int32_t* counters;
};

/// Each CTA has room for two parts: of the tile that it begins and does not end, and of the tile
/// that it does not begin; sums of both segments. A thread's words lie 16 bytes at a time, threads
/// side by side.
template <class T>
__device__ __forceinline__ int4* part_of(void* parts, int cta, bool begins_tile, int segment) {
  const int64_t part = (static_cast<int64_t>(cta) * 2 + (begins_tile ? 1 : 0)) * 2 + segment;
  return static_cast<int4*>(parts) + part * (kTileRows * T::kTokens / 4) + threadIdx.x;
}

template <class T>
__device__ __forceinline__ void write_part(int4* to, const Sums<T>& sums) {
#pragma unroll
  for (int i = 0; i < T::kSums / 4; ++i) {
    const int32_t(&s)[4] = sums[i / T::kColumns][i % T::kColumns];
    __stcg(to + i * kNumThreads, make_int4(s[0], s[1], s[2], s[3]));
  }
}

template <class T>
__device__ __forceinline__ void add_part(const int4* from, Sums<T>& sums) {
#pragma unroll
  for (int i = 0; i < T::kSums / 4; ++i) {
    const int4 part = __ldcg(from + i * kNumThreads);
    int32_t(&s)[4] = sums[i / T::kColumns][i % T::kColumns];
    s[0] += part.x;
    s[1] += part.y;
    s[2] += part.z;
    s[3] += part.w;
  }
}

/// The CTAs that share a tile; the first is the one with its block 0.
struct Sharers {
  int first, last;
};

__device__ __forceinline__ Sharers sharers_of(const TilePart& part) {
  const int32_t* border = part.schedule.border;
  Sharers sharers{static_cast<int>(blockIdx.x), static_cast<int>(blockIdx.x)};
  while (border[sharers.first] > part.tile_step) --sharers.first;
  while (border[sharers.last + 1] < part.tile_step + part.args.blocks) ++sharers.last;
  return sharers;
}

/// Counts this CTA in; true in the last one of the tile, which then sees what all have written.
__device__ __forceinline__ bool is_last_of(const Sharers& sharers, int32_t* counters) {
  __shared__ bool is_last;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    int32_t* counter = counters + sharers.first;  // a CTA begins at most one tile that it shares
    is_last = atomicAdd(counter, 1) == sharers.last - sharers.first;
    if (is_last) *counter = 0;
  }
  __syncthreads();
  __threadfence();
  return is_last;
}

/// Leaves this part of a tile to the others, or, in the last CTA of them, adds theirs: true.
template <class T>
__device__ __forceinline__ bool join_parts(const TilePart& part, Sums<T>& int4, Sums<T>& int8) {
  const int own = static_cast<int>(blockIdx.x);
  const int int4_blocks = part.args.int4_blocks;
  const bool begins_tile = part.at.begin == 0;
  if (part.at.begin < int4_blocks) write_part<T>(part_of<T>(part.parts, own, begins_tile, 0), int4);
  if (part.at.end > int4_blocks) write_part<T>(part_of<T>(part.parts, own, begins_tile, 1), int8);
  const Sharers sharers = sharers_of(part);
  if (!is_last_of(sharers, part.counters)) return false;
#pragma unroll 1
  for (int cta = sharers.first; cta <= sharers.last; ++cta) {
    if (cta == own) continue;
    const bool is_first = cta == sharers.first;
    if (part.schedule.border[cta] - part.tile_step < int4_blocks) {
      add_part<T>(part_of<T>(part.parts, cta, is_first, 0), int4);
    }
    if (part.schedule.border[cta + 1] - part.tile_step > int4_blocks) {
      add_part<T>(part_of<T>(part.parts, cta, is_first, 1), int8);
    }
  }
  return true;
}

}  // namespace comet::formats::w4ax::cuda
