// End of a tile of gemm_sm90_wide.cuh: scales by table, sums → outputs. Callers: gemm_sm90_wide.cu.
#pragma once

#include <cuda_bf16.h>

#include "comet/device/cuda/prims/convert.cuh"
#include "comet/device/cuda/prims/ldmatrix.cuh"
#include "comet/formats/w4ax/cuda/wide/gemm_sm90_wide.cuh"

namespace comet::formats::w4ax::cuda {

/// What a warpgroup's end of tile reads, in shared memory.
template <class T>
struct Sm90Table {
  uint8_t* bytes;

  __device__ Sm90Table(const Sm90Pipeline<T>& pipeline, uint32_t tile_count)
      : bytes(pipeline.shared + T::kTablesAt +
              (Sm90WideThread<T>().group * 2 + static_cast<int>(tile_count & 1U)) *
                  T::kTableBytes) {}
  __device__ uint8_t* token(int token) const { return bytes + token * T::kTokenBytes; }
  __device__ float* channel(int row) const {
    return reinterpret_cast<float*>(bytes + T::kOwnTokens * T::kTokenBytes) + row;
  }
  __device__ float* bias(int row) const { return channel(64 + row); }
  __device__ OutputTile* tile() const { return reinterpret_cast<OutputTile*>(channel(128)); }
  __device__ Sm90Place* place() const { return reinterpret_cast<Sm90Place*>(tile() + 1); }
};

/// Starts this warpgroup's copies; behind cp_async_wait and a barrier of the warpgroup they are
/// there. Two tables in turn: warps are at most a tile apart.
template <class T>
__device__ __forceinline__ void sm90_fill_table(const GemmArgs& args, const Sm90Table<T>& table,
                                                const Sm90Place& place) {
  const Sm90WideThread<T> thread;
  const int idx = static_cast<int>(thread.idx % 128);
  const int first_token = place.token_tile * T::kTokens + thread.first_token();
  for (int i = idx; i < T::kOwnTokens && first_token + i < args.tokens; i += 128) {
    const float* scales = args.x_scales + int64_t{2} * (first_token + i);
    if constexpr (T::kTwoSegments) {
      prims::cp_async_8(table.token(i), scales);
    } else {
      prims::cp_async_4(table.token(i), scales + (args.int4_blocks == 0 ? 1 : 0));
    }
  }
  const int tile_idx = place.row_tile * T::kTiles + thread.tile();
  if (idx < 64 && tile_idx < args.num_tiles) {
    const int row = (thread.group & 1) * 64 + idx;
    prims::cp_async_4(table.channel(idx), args.channel_scale + tile_idx * kTileRows + row);
    if (args.bias != nullptr) {
      const OutputTile tile = args.tiles[tile_idx];
      if (row < tile.num_rows) prims::cp_async_4(table.bias(idx), args.bias + tile.column + row);
    }
    if (idx == 0) prims::cp_async_8(table.tile(), args.tiles + tile_idx);
  }
  if (idx == 0) *table.place() = place;
  prims::cp_async_commit();
}

/// A warp's 16 rows on their way out.
struct Sm90WarpRows {
  const OutputTile* tile;
  int64_t first;      // output of token 0 and the first of the rows
  int row;            // that row, in the packed tile
  float scale[2];     // of this lane's rows, lane / 4 and + 8
  const float* bias;  // likewise, 8 apart; read anew each time, because there seldom is one
  bool is_turned;     // whole sectors of BF16; else value by value

  template <class T>
  __device__ static Sm90WarpRows of(const GemmArgs& args, const Sm90Table<T>& table) {
    const Sm90WideThread<T> thread;
    const int in_group = thread.warp * 16 + (thread.lane >> 2);
    Sm90WarpRows rows;
    rows.tile = table.tile();
    rows.row = thread.row();
    rows.first = rows.tile->column + rows.row;
    rows.scale[0] = *table.channel(in_group);
    rows.scale[1] = *table.channel(in_group + 8);
    rows.bias = table.bias(in_group);
    rows.is_turned = args.out_is_bf16 && rows.row + 16 <= rows.tile->num_rows &&
                     (args.out_stride | rows.first) % 8 == 0 &&
                     reinterpret_cast<uintptr_t>(args.out) % 16 == 0;
    return rows;
  }
};

/// Outputs of the lane's 2 rows × 2 tokens of 8: y[2·row + token].
template <class T>
__device__ __forceinline__ void sm90_scale_four(const GemmArgs& args, const Sm90WarpRows& rows,
                                                const uint8_t* scales, const int32_t* low,
                                                const int32_t* high, float (&y)[4]) {
  float high_scale[2];
  float low_scale[2] = {};
  if constexpr (T::kTwoSegments) {
    const float4 both = *reinterpret_cast<const float4*>(scales);
    low_scale[0] = both.x;
    high_scale[0] = both.y;
    low_scale[1] = both.z;
    high_scale[1] = both.w;
  } else {
    const float2 pair = *reinterpret_cast<const float2*>(scales);
    high_scale[0] = pair.x;
    high_scale[1] = pair.y;
  }
  const auto value = [](int32_t sum) { return __int2float_rn(T::kHasLevels ? sum : sum >> 4); };
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    if constexpr (T::kTwoSegments) {
      y[j] =
          __fmaf_rn(high_scale[j % 2], value(high[j]), __fmul_rn(low_scale[j % 2], value(low[j])));
    } else {
      y[j] = __fmul_rn(high_scale[j % 2], value(high[j]));
    }
    y[j] = __fmul_rn(rows.scale[j / 2], y[j]);
    if (args.bias != nullptr) y[j] = __fadd_rn(y[j], rows.bias[j / 2 * 8]);
  }
}

/// 16 tokens of the warp's rows on their way out, two turns in turn. Values one by one: F32, and
/// what is not aligned or not whole.
__device__ __forceinline__ void sm90_store_values(const GemmArgs& args, const Sm90WarpRows& rows,
                                                  int lane, int first_token, const float* turn) {
#pragma unroll 1
  for (int i = lane; i < 256; i += 32) {
    const int token = first_token + (i >> 4);
    const int row = i & 15;
    if (token >= args.tokens || rows.row + row >= rows.tile->num_rows) continue;
    const int64_t at = token * args.out_stride + rows.first + row;
    if (args.out_is_bf16) {
      static_cast<__nv_bfloat16*>(args.out)[at] = __float2bfloat16_rn(turn[i]);
    } else {
      static_cast<float*>(args.out)[at] = turn[i];
    }
  }
}

/// Sectors: two lanes have a token's 16 rows.
__device__ __forceinline__ void sm90_store_sectors(const GemmArgs& args, const Sm90WarpRows& rows,
                                                   int lane, int first_token, const uint8_t* turn) {
  const int token = first_token + (lane >> 1);
  if (token >= args.tokens) return;
  const uint4 eight = *reinterpret_cast<const uint4*>(turn);
  auto* out =
      static_cast<__nv_bfloat16*>(args.out) + token * args.out_stride + rows.first + (lane & 1) * 8;
  *reinterpret_cast<uint4*>(out) = eight;
}

/// kCount of the warpgroup's tokens, from `first` of its own on. low and high: their sums.
template <class T, int kCount>
__device__ __forceinline__ void sm90_wide_store(const GemmArgs& args,
                                                const Sm90Pipeline<T>& pipeline,
                                                const Sm90Table<T>& table, int token_tile,
                                                int first, const int32_t* low,
                                                const int32_t* high) {
  const Sm90WideThread<T> thread;
  const int lane = thread.lane;
  const Sm90WarpRows rows = Sm90WarpRows::of<T>(args, table);
  const int tile_token = token_tile * T::kTokens + thread.first_token() + first;
  const uint8_t* scales = table.token(first + (lane & 3) * 2);
  uint8_t* turn = pipeline.shared + T::kTurnAt + static_cast<int>(thread.idx / 32) * T::kTurnBytes;
  // stmatrix: lane l names token l % 8 of 8, rows 8 · (l / 8 % 2) on, of the 8 tokens l / 16.
  const int to_token = (lane >> 4) * 8 + (lane & 7);
  uint8_t* to = turn + to_token * 32 + ((lane >> 3 & 1) ^ (to_token >> 2 & 1)) * 16;
  const uint8_t* from = turn + (lane >> 1) * 32 + ((lane & 1) ^ (lane >> 3 & 1)) * 16;
#pragma unroll
  for (int at = 0; at < kCount; at += 16) {
    const int turn_at = at / 16 % 2 * 512;
    uint32_t packed[4];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int token = at + i * 8;
      float y[4];
      sm90_scale_four<T>(args, rows, scales + token * T::kTokenBytes, low + token / 2,
                         high + token / 2, y);
      packed[2 * i] = prims::bf16x2_of(y[0], y[1]);
      packed[2 * i + 1] = prims::bf16x2_of(y[2], y[3]);
      if (rows.is_turned) continue;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int to_token_of_value = i * 8 + (lane & 3) * 2 + j % 2;
        reinterpret_cast<float*>(turn)[to_token_of_value * 16 + (lane >> 2) + j / 2 * 8] = y[j];
      }
    }
    if (rows.is_turned) {
      prims::stmatrix_x4_trans(to + turn_at, packed);
      __syncwarp();
      sm90_store_sectors(args, rows, lane, tile_token + at, from + turn_at);
    } else {
      __syncwarp();
      sm90_store_values(args, rows, lane, tile_token + at, reinterpret_cast<const float*>(turn));
      __syncwarp();
    }
  }
}

}  // namespace comet::formats::w4ax::cuda
