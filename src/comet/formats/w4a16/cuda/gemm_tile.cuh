// What w4a16's GEMM kernels share: nibbles to BF16 fragments, scales of a block, the order of
// tiles, and the way of a finished tile through shared memory to the output.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "comet/device/cuda/prims/access.cuh"
#include "comet/device/cuda/prims/convert.cuh"
#include "comet/formats/w4a16/cuda/gemm.h"

namespace comet::formats::w4a16_cuda {

/// Rows of a finished tile in shared memory: [tokens][rows + 4] floats. Fragments put column pairs
/// at tokens 2·quad: 2·(rows + 4) % 32 = 8 banks apart, and rows group = 0…7 between.
constexpr int kTilePadding = 4;

/// 128 + nibble as BF16 has the bits 0x4300 | nibble: seven bits of mantissa hold 0…127.
constexpr uint32_t kMagic = 0x43004300U;
constexpr uint32_t kNibbles = 0x000F000FU;
constexpr int kAndOr = 0xEA;  // lop3: (a & b) | c

/// 128 + zero in both halves.
__device__ __forceinline__ uint32_t zero_offset(uint32_t zero) {
  return kMagic | zero | zero << 16;
}

/// One A fragment m16n8k16 of the integers u − zero, exact. offsets: of row group and group + 8.
__device__ __forceinline__ void dequantize(uint32_t (&a)[4], uint32_t word,
                                           const uint32_t (&offsets)[2]) {
#pragma unroll
  for (int s = 0; s < 4; ++s) {
    const uint32_t biased = prims::lop3<kAndOr>(word >> (4 * s), kNibbles, kMagic);
    const uint32_t offset = offsets[s % 2];
    const __nv_bfloat162 value = __hsub2(reinterpret_cast<const __nv_bfloat162&>(biased),
                                         reinterpret_cast<const __nv_bfloat162&>(offset));
    a[s] = reinterpret_cast<const uint32_t&>(value);
  }
}

/// Nibbles as they lie are BF16 numbers near the least: bits 0 … 7 are an integer times 2^-133,
/// even where bit 7 is the exponent's. So nibble u in bits 0 … 3 times scale · 2^73, in bits 4 … 7
/// times scale · 2^69, are both u · scale · 2^-60: the weights of Form::kScaled are this much
/// smaller.
constexpr float kScaledUp = 0x1p60F;
constexpr uint32_t kHighNibbles = 0x00F000F0U;

/// What a lane needs of a block to make scaled weights: of its rows group and group + 8 of the
/// unit, in both halves, what nibbles are multiplied by and what is added then.
struct ScaledFactors {
  uint32_t scales[2];
  uint32_t offsets[2];
};

__device__ __forceinline__ uint32_t fma_bf16x2(uint32_t a, uint32_t b, uint32_t c) {
  const __nv_bfloat162 value = __hfma2(reinterpret_cast<const __nv_bfloat162&>(a),
                                       reinterpret_cast<const __nv_bfloat162&>(b),
                                       reinterpret_cast<const __nv_bfloat162&>(c));
  return reinterpret_cast<const uint32_t&>(value);
}

__device__ __forceinline__ uint32_t multiply_bf16x2(uint32_t a, uint32_t b) {
  const __nv_bfloat162 value = __hmul2(reinterpret_cast<const __nv_bfloat162&>(a),
                                       reinterpret_cast<const __nv_bfloat162&>(b));
  return reinterpret_cast<const uint32_t&>(value);
}

/// `own`: the scale of row group of the unit, in shared memory.
__device__ __forceinline__ ScaledFactors scaled_factors(const uint16_t* own) {
  constexpr uint32_t kUps[2] = {0x64006400U, 0x62006200U};  // 2^73, 2^69
  constexpr uint32_t kOfZero = 0xA300A300U;                 // -8 · 2^-60
  ScaledFactors factors;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const uint32_t scale = own[8 * half] * 0x10001U;
    factors.scales[half] = multiply_bf16x2(scale, kUps[half]);
    factors.offsets[half] = multiply_bf16x2(scale, kOfZero);
  }
  return factors;
}

/// One A fragment m16n8k16 of BF16(scale · (u − 8)) · 2^-60.
__device__ __forceinline__ void dequantize_scaled(uint32_t (&a)[4], uint32_t word,
                                                  const ScaledFactors& factors) {
#pragma unroll
  for (int s = 0; s < 4; ++s) {
    const uint32_t nibbles = (s < 2 ? word : word >> 8) & (s % 2 == 0 ? kNibbles : kHighNibbles);
    a[s] = fma_bf16x2(nibbles, factors.scales[s % 2], factors.offsets[s % 2]);
  }
}

/// What a lane needs of a block's group: of its rows group and group + 8 of the unit.
struct GroupFactors {
  float scales[2];
  uint32_t offsets[2];
};

/// Both conversions and a choice: no branch in the loop that asks.
__device__ __forceinline__ float scale_of_bits(uint16_t bits, bool is_f16) {
  const float of_f16 = prims::f32_of_f16(bits);
  const float of_bf16 = prims::f32_of_bf16(bits);
  return is_f16 ? of_f16 : of_bf16;
}

/// `block` in shared memory, kGroups groups; row: row group of the unit, 0…127 in the block.
template <int kGroups>
__device__ __forceinline__ GroupFactors group_factors(const uint8_t* block, const Blocks& blocks,
                                                      int group_idx, int row) {
  GroupFactors factors;
  const uint8_t* scales = block + kWordBytes;
  const uint8_t* zeros = scales + kBlockRows * kGroups * (kGroups == 1 ? 2 : 4);
  const int first = group_idx * kBlockRows + row;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int i = first + 8 * half;
    if constexpr (kGroups == 1) {
      factors.scales[half] =
          scale_of_bits(reinterpret_cast<const uint16_t*>(scales)[i], blocks.is_f16);
    } else {
      factors.scales[half] = reinterpret_cast<const float*>(scales)[i];
    }
    factors.offsets[half] = zero_offset(kPlainZero);
  }
  if (blocks.has_zeros) {
    factors.offsets[0] = zero_offset(zeros[first]);
    factors.offsets[1] = zero_offset(zeros[first + 8]);
  }
  return factors;
}

/// Tiles that run at the same time share weights and inputs in L2: kTileGroup tiles of tokens
/// pass over the rows together.
constexpr int kTileGroup = 8;

struct TileIndex {
  int row_tile;
  int token_tile;
};

__device__ __forceinline__ TileIndex tile_of(int tile, int num_row_tiles, int num_token_tiles) {
  if (num_token_tiles == 1) return {tile, 0};  // no divisions before the first copy
  const int first = tile / (kTileGroup * num_row_tiles) * kTileGroup;
  const int width = min(num_token_tiles - first, kTileGroup);
  const int within = tile % (kTileGroup * num_row_tiles);
  return {within / width, first + within % width};
}

/// sums[4·i + j] of an m16 fragment: row + 8·(j / 2), token 8·i + 2·quad + j % 2.
template <int kTokens>
__device__ __forceinline__ void fragment_to_tile(float* tile, int tile_rows,
                                                 const float (&sums)[kTokens / 2], int row,
                                                 int quad) {
  const int stride = tile_rows + kTilePadding;
#pragma unroll
  for (int i = 0; i < kTokens / 8; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      tile[(8 * i + 2 * quad + j % 2) * stride + row + 8 * (j / 2)] = sums[4 * i + j];
    }
  }
}

/// Whether four neighbouring outputs may be written at once.
struct StoreTarget {
  void* out;
  const float* bias;
  int64_t out_stride;
  int32_t n;
  bool is_bf16;
  bool is_aligned;  // n, stride and out allow stores of four
};

__device__ __forceinline__ StoreTarget store_target(const GemmArgs& args) {
  const uint64_t step = args.out_is_bf16 ? 8 : 16;
  return {args.out,
          args.bias,
          args.out_stride,
          args.blocks.n,
          args.out_is_bf16,
          args.blocks.n % 4 == 0 && args.out_stride % 4 == 0 &&
              reinterpret_cast<uint64_t>(args.out) % step == 0};
}

/// Four sums of one token, rows row … row + 3, with bias.
__device__ __forceinline__ void store_four(const StoreTarget& to, int64_t token, int row,
                                           float4 sums) {
  float values[4] = {sums.x, sums.y, sums.z, sums.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (to.bias != nullptr && row + i < to.n) values[i] += to.bias[row + i];
  }
  const int64_t at = token * to.out_stride + row;
  if (to.is_bf16) {
    auto* out = static_cast<__nv_bfloat16*>(to.out) + at;
    if (to.is_aligned && row < to.n) {
      __nv_bfloat162 pairs[2] = {__floats2bfloat162_rn(values[0], values[1]),
                                 __floats2bfloat162_rn(values[2], values[3])};
      *reinterpret_cast<uint2*>(out) = reinterpret_cast<const uint2&>(pairs);
      return;
    }
    for (int i = 0; i < 4 && row + i < to.n; ++i) out[i] = __float2bfloat16_rn(values[i]);
    return;
  }
  float* out = static_cast<float*>(to.out) + at;
  if (to.is_aligned && row < to.n) {
    *reinterpret_cast<float4*>(out) = make_float4(values[0], values[1], values[2], values[3]);
    return;
  }
  for (int i = 0; i < 4 && row + i < to.n; ++i) out[i] = values[i];
}

}  // namespace comet::formats::w4a16_cuda
