// What the consumers of gemm_sm90.cuh do with their sums: join the parts of a tile that several
// CTAs have, scale, store. Callers: gemm_sm90.cu.
#pragma once

#include <cuda_bf16.h>

#include "comet/formats/w4ax/cuda/gemm_sm90.cuh"

namespace comet::formats::w4ax::cuda {

// ---- Tiles of several CTAs. A CTA has two slots in the workspace: for a tile whose first block it
// has not, and for one of which it has the first block, but not the last. Warpgroups do this each
// for itself.

template <class T>
__device__ __forceinline__ int4* sm90_slot(void* workspace, int slot, int segment) {
  constexpr int kChunks = T::kRows * T::kTokens / 8;  // of 16 bytes, of a warpgroup
  const int warpgroup = static_cast<int>(threadIdx.x) / 128;
  const int64_t at = (int64_t{slot} * T::kSegments + segment) * 2 + warpgroup;
  return static_cast<int4*>(workspace) + at * kChunks + threadIdx.x % 128;
}

template <class T>
__device__ __forceinline__ void sm90_write_slot(void* workspace, int slot, int segment,
                                                const Sm90Sums<T>& sums) {
  int4* to = sm90_slot<T>(workspace, slot, segment);
#pragma unroll
  for (int part = 0; part < T::kParts; ++part) {
#pragma unroll
    for (int i = 0; i < T::kSums / 4; ++i) {
      const int32_t* four = sums[part] + i * 4;
      __stcg(to + (part * (T::kSums / 4) + i) * 128, make_int4(four[0], four[1], four[2], four[3]));
    }
  }
}

template <class T>
__device__ __forceinline__ void sm90_add_slot(void* workspace, int slot, int segment,
                                              Sm90Sums<T>& sums) {
  const int4* from = sm90_slot<T>(workspace, slot, segment);
#pragma unroll
  for (int part = 0; part < T::kParts; ++part) {
#pragma unroll
    for (int i = 0; i < T::kSums / 4; ++i) {
      const int4 four = __ldcg(from + (part * (T::kSums / 4) + i) * 128);
      sums[part][i * 4] += four.x;
      sums[part][i * 4 + 1] += four.y;
      sums[part][i * 4 + 2] += four.z;
      sums[part][i * 4 + 3] += four.w;
    }
  }
}

/// Counts this warpgroup's blocks in; true in the last one of the tile, which then sees what the
/// others have written.
template <class T>
__device__ __forceinline__ bool sm90_is_last(const GemmArgs& args, const Sm90Pipeline<T>& pipeline,
                                             const Sm90Work& work, int32_t* counter) {
  const int warpgroup = static_cast<int>(threadIdx.x) / 128;
  int* vote = pipeline.votes() + warpgroup;
  const auto barrier = static_cast<uint32_t>(1 + warpgroup);
  __threadfence();
  prims::named_barrier_sync(barrier, 128);
  if (threadIdx.x % 128 == 0) {
    const int mine = work.end - work.begin;
    const bool is_last = atomicAdd(counter, mine) + mine == args.blocks;
    if (is_last) *counter = 0;
    *vote = is_last ? 1 : 0;
  }
  prims::named_barrier_sync(barrier, 128);
  __threadfence();
  return *vote != 0;
}

/// Calls each(slot, begin, end) for every other CTA that has blocks of this tile.
template <class Each>
__device__ __forceinline__ void sm90_for_each_other(const Sm90Schedule& schedule, int tile,
                                                    const Each& each) {
  const Sm90Grid& grid = schedule.grid;
  const int num_ctas = static_cast<int>(gridDim.x);
  const int units = (grid.row_tiles * grid.token_tiles - grid.num_whole) * schedule.blocks;
  const int first = (tile - grid.num_whole) * schedule.blocks;
  const int last = first + schedule.blocks;
  // The CTA whose share holds the tile's first block: the last one that begins at or before it.
  int cta =
      static_cast<int>((static_cast<uint32_t>(first + 1) * static_cast<uint32_t>(num_ctas) - 1) /
                       static_cast<uint32_t>(units));
  int begin = sm90_share(units, cta, num_ctas);
  while (begin < last) {
    const int end = sm90_share(units, cta + 1, num_ctas);
    if (end > begin && cta != static_cast<int>(blockIdx.x)) {
      each(2 * cta + (begin > first ? 0 : 1), (begin > first ? begin : first) - first,
           (end < last ? end : last) - first);
    }
    begin = end;
    ++cta;
  }
}

// ---- Output

/// What a thread stores: four neighbouring rows, the same of every token.
struct Sm90Rows {
  int num_left;  // rows from the first on: four or more, fewer, none
  float scale[4];
  float bias[4];
};

__device__ __forceinline__ Sm90Rows sm90_rows(const GemmArgs& args, const OutputTile& tile,
                                              int tile_idx, int row) {
  Sm90Rows rows;
  rows.num_left = tile.num_rows - row;
  const float4 scale =
      *reinterpret_cast<const float4*>(args.channel_scale + tile_idx * kTileRows + row);
  rows.scale[0] = scale.x;
  rows.scale[1] = scale.y;
  rows.scale[2] = scale.z;
  rows.scale[3] = scale.w;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    rows.bias[i] = 0.0F;
    if (args.bias != nullptr && i < rows.num_left) rows.bias[i] = args.bias[tile.column + row + i];
  }
  return rows;
}

/// Four neighbouring values of a token.
__device__ __forceinline__ void sm90_store_four(const GemmArgs& args, int64_t element, int num_left,
                                                const float (&y)[4]) {
  const bool is_aligned =
      args.out_stride % 4 == 0 && reinterpret_cast<uintptr_t>(args.out) % 16 == 0;
  const bool is_whole = is_aligned && element % 4 == 0 && num_left >= 4;
  if (args.out_is_bf16) {
    auto* out = static_cast<__nv_bfloat16*>(args.out) + element;
    if (is_whole) {
      const __nv_bfloat162 pairs[2] = {__floats2bfloat162_rn(y[0], y[1]),
                                       __floats2bfloat162_rn(y[2], y[3])};
      *reinterpret_cast<uint2*>(out) = *reinterpret_cast<const uint2*>(pairs);
      return;
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (i < num_left) out[i] = __float2bfloat16_rn(y[i]);
    }
    return;
  }
  auto* out = static_cast<float*>(args.out) + element;
  if (is_whole) {
    *reinterpret_cast<float4*>(out) = make_float4(y[0], y[1], y[2], y[3]);
    return;
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (i < num_left) out[i] = y[i];
  }
}

/// I of a sum: 16·q was multiplied unless the weights are progressive.
template <class T>
__device__ __forceinline__ float sm90_value(int32_t sum) {
  return __int2float_rn(T::kHasLevels ? sum : sum >> 4);
}

/// Scales of the tokens first_token, + 8, + 16, …, read at once because each takes long: of one
/// segment, or of both.
template <class T>
struct Sm90TokenScales {
  float low[T::kTwoSegments ? T::kTokens / 8 : 1];
  float high[T::kTokens / 8];

  __device__ Sm90TokenScales(const GemmArgs& args, int first_token) {
#pragma unroll
    for (int i = 0; i < T::kTokens / 8; ++i) {
      const int token = first_token + i * 8;
      float2 pair = make_float2(0.0F, 0.0F);
      if (token < args.tokens)
        pair = __ldcg(reinterpret_cast<const float2*>(args.x_scales) + token);
      if constexpr (T::kTwoSegments) {
        low[i] = pair.x;
        high[i] = pair.y;
      } else {
        high[i] = args.int4_blocks == 0 ? pair.y : pair.x;
      }
    }
  }
};

/// Sums → outputs; a warp turns its 16 rows × 8 tokens round in shared memory.
template <class T>
__device__ __forceinline__ void sm90_store(const GemmArgs& args, const Sm90Pipeline<T>& pipeline,
                                           const Sm90Place& place, const Sm90Sums<T>& low,
                                           const Sm90Sums<T>& high) {
  const Sm90Thread<T> thread;
  const int tile_idx = place.row_tile * T::kTiles + thread.tile();
  if (tile_idx >= args.num_tiles) return;  // an odd number of packed tiles, two at a time
  const OutputTile tile = args.tiles[tile_idx];
  auto* turn =
      reinterpret_cast<int32_t*>(pipeline.shared + T::kOutAt) + threadIdx.x / 32 * T::kOutWords;
  constexpr int kSegmentWords = 8 * T::kOutPitch;
  int32_t* to = turn + thread.lane % 4 * 2 * T::kOutPitch + thread.lane / 4;
  const int32_t* from = turn + thread.lane / 4 * T::kOutPitch + thread.lane % 4 * 4;
  const int first_token = place.token_tile * T::kTokens + thread.lane / 4;
  const Sm90TokenScales<T> scales(args, first_token);
#pragma unroll
  for (int part = 0; part < T::kParts; ++part) {
    const int row = thread.row(part) + thread.lane % 4 * 4;
    const Sm90Rows rows = sm90_rows(args, tile, tile_idx, row);
#pragma unroll
    for (int i = 0; i < T::kTokens / 8; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int word = j % 2 * T::kOutPitch + j / 2 * 8;
        to[word] = high[part][i * 4 + j];
        if constexpr (T::kTwoSegments) to[kSegmentWords + word] = low[part][i * 4 + j];
      }
      __syncwarp();
      const int4 sums = *reinterpret_cast<const int4*>(from);
      const int32_t four[4] = {sums.x, sums.y, sums.z, sums.w};
      int32_t four_low[4] = {};
      if constexpr (T::kTwoSegments) {
        const int4 other = *reinterpret_cast<const int4*>(from + kSegmentWords);
        four_low[0] = other.x;
        four_low[1] = other.y;
        four_low[2] = other.z;
        four_low[3] = other.w;
      }
      __syncwarp();
      const int token = first_token + i * 8;
      if (token >= args.tokens) continue;
      float y[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        y[j] = __fmul_rn(scales.high[i], sm90_value<T>(four[j]));
        if constexpr (T::kTwoSegments) {
          y[j] = __fmaf_rn(scales.high[i], sm90_value<T>(four[j]),
                           __fmul_rn(scales.low[i], sm90_value<T>(four_low[j])));
        }
        y[j] = __fmul_rn(rows.scale[j], y[j]);
        if (args.bias != nullptr) y[j] = __fadd_rn(y[j], rows.bias[j]);
      }
      sm90_store_four(args, token * args.out_stride + tile.column + row, rows.num_left, y);
    }
  }
}

}  // namespace comet::formats::w4ax::cuda
