// Codes of one row of K or V by one warp: kv16, kv8 and kv4 of docs/formats.md §3, bit for bit
// those of the CPU (kv4_simd.h, kv8_simd.h). Callers: append.cu's kernels.
//
// A lane holds the row's dims in two runs of kRun = head_dim/64: x[j] is dim kRun·lane + j and
// x[kRun + j] is dim head_dim/2 + kRun·lane + j, so that a RoPE pair lies in one lane.
#pragma once

#include <cuda_fp16.h>

#include <cstdint>

#include "comet/kv/cuda/lanes.cuh"
#include "comet/kv/cuda/page_map.h"

namespace comet::kv {

constexpr uint16_t kHalfNaN = 0x7E00;

/// A finite FP32 narrowed to FP16; `saturated` when the bound is beyond ±65504.
struct HalfBound {
  uint16_t bits;
  bool saturated;
};

/// |x| truncated to FP16 (65504 at most), or, with `away`, the next one up unless exact.
__device__ __forceinline__ HalfBound half_magnitude(float x, bool away) {
  const uint32_t bits = __float_as_uint(x) & 0x7FFFFFFFU;
  if (bits >= 0x47800000U) return {0x7BFF, away};  // 65536 and more
  uint32_t truncated;
  bool exact;
  if (bits >= 0x38800000U) {  // normal: 2⁻¹⁴ and more
    truncated = (bits - 0x38000000U) >> 13;
    exact = (bits & 0x1FFFU) == 0;
  } else {  // multiples of 2⁻²⁴
    const float scaled = __uint_as_float(bits) * 0x1p24F;
    truncated = static_cast<uint32_t>(scaled);
    exact = static_cast<float>(truncated) == scaled;
  }
  const uint32_t rounded = truncated + (away && !exact ? 1U : 0U);
  if (rounded > 0x7BFFU) return {0x7BFF, true};
  return {static_cast<uint16_t>(rounded), false};
}

/// The largest FP16 ≤ x (+0 for zero); −65504, saturated, below that.
__device__ __forceinline__ HalfBound half_floor(float x) {
  const bool negative = x < 0.0F;
  HalfBound bound = half_magnitude(x, negative);
  if (negative) bound.bits = static_cast<uint16_t>(bound.bits | 0x8000U);
  return bound;
}

/// The smallest FP16 ≥ x, for x ≥ 0; 65504, saturated, above that.
__device__ __forceinline__ HalfBound half_ceil(float x) { return half_magnitude(x, true); }

__device__ __forceinline__ float half_value(uint16_t bits) {
  return __half2float(__ushort_as_half(bits));
}

struct WarpRowRange {
  float low;
  float high;
  bool finite;
};

template <int kCount>
__device__ __forceinline__ WarpRowRange range_of_row(const float (&x)[kCount]) {
  WarpRowRange range = {x[0], x[0], true};
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    range.low = fminf(range.low, x[i]);
    range.high = fmaxf(range.high, x[i]);
    range.finite = range.finite && fabsf(x[i]) < INFINITY;  // false for NaN too
  }
#pragma unroll
  for (int stride = 16; stride > 0; stride /= 2) {
    range.low = fminf(range.low, __shfl_xor_sync(kAllLanes, range.low, stride));
    range.high = fmaxf(range.high, __shfl_xor_sync(kAllLanes, range.high, stride));
  }
  range.finite = __all_sync(kAllLanes, range.finite);
  return range;
}

/// Codes 0…255 of a row and its parameters. kv8: q + 128 and s; kv4: u, s and m.
template <int kCount>
struct RowCodes {
  uint8_t code[kCount];
  uint16_t scale = 0;
  uint16_t low = 0;
  bool saturated = false;
};

template <int kCount>
__device__ __forceinline__ RowCodes<kCount> codes_of_row_kv8(const float (&x)[kCount]) {
  const WarpRowRange range = range_of_row(x);
  RowCodes<kCount> row;
#pragma unroll
  for (int i = 0; i < kCount; ++i) row.code[i] = 128;
  if (!range.finite) {  // the row reads as NaN, and its request ends with an error
    row.scale = kHalfNaN;
    return row;
  }
  const float absmax = range.high > -range.low ? range.high : -range.low;
  const HalfBound scale = half_ceil(absmax / 127.0F);
  row.scale = scale.bits;
  row.saturated = scale.saturated;
  if (scale.bits == 0) return row;
  const float s = half_value(scale.bits);
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    const float q = rintf(fminf(fmaxf(x[i] / s, -127.0F), 127.0F));
    row.code[i] = static_cast<uint8_t>(static_cast<int>(q) + 128);
  }
  return row;
}

template <int kCount>
__device__ __forceinline__ RowCodes<kCount> codes_of_row_kv4(const float (&x)[kCount]) {
  const WarpRowRange range = range_of_row(x);
  RowCodes<kCount> row;
#pragma unroll
  for (int i = 0; i < kCount; ++i) row.code[i] = 0;
  if (!range.finite) {
    row.scale = row.low = kHalfNaN;
    return row;
  }
  const HalfBound low = half_floor(range.low);
  const float m = half_value(low.bits);
  const HalfBound scale = half_ceil((range.high - m) / 15.0F);
  row.scale = scale.bits;
  row.low = low.bits;
  row.saturated = low.saturated || scale.saturated;
  const float s = half_value(scale.bits);
  if (s == 0.0F) return row;
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    const float u = rintf(fminf(fmaxf((x[i] - m) / s, 0.0F), 15.0F));
    row.code[i] = static_cast<uint8_t>(static_cast<int>(u));
  }
  return row;
}

/// Pieces of consecutive codes as the page has them: 4 bytes of K, 2 bytes of V, gathered through
/// `staged` (kDim bytes of shared memory of this warp).
template <PageFormat kFormat, int kDim, int kCount>
__device__ __forceinline__ void store_codes(uint8_t* part, int row_idx, bool is_value,
                                            const RowCodes<kCount>& row, uint8_t* staged) {
  using Map = PageMap<kFormat, kDim>;
  constexpr int kRun = kCount / 2;
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int j = 0; j < kRun; ++j) {
    staged[kRun * lane + j] = row.code[j];
    staged[kDim / 2 + kRun * lane + j] = row.code[kRun + j];
  }
  __syncwarp();
  constexpr bool kNibbles = kFormat == PageFormat::kKv4;
  const auto byte_at = [&](int dim) -> uint32_t {  // the page's byte that begins with this dim
    return kNibbles ? staged[dim] | static_cast<uint32_t>(staged[dim + 1]) << 4 : staged[dim];
  };
  constexpr int kByteDims = kNibbles ? 2 : 1;
  if (is_value) {
    for (int dim = lane * 2 * kByteDims; dim < kDim; dim += 64 * kByteDims) {
      const uint32_t piece = byte_at(dim) | byte_at(dim + kByteDims) << 8;
      *reinterpret_cast<uint16_t*>(part + Map::value_byte(row_idx, dim)) =
          static_cast<uint16_t>(piece);
    }
  } else {
    for (int dim = lane * 4 * kByteDims; dim < kDim; dim += 128 * kByteDims) {
      uint32_t piece = 0;
#pragma unroll
      for (int i = 0; i < 4; ++i) piece |= byte_at(dim + i * kByteDims) << (8 * i);
      *reinterpret_cast<uint32_t*>(part + Map::key_byte(row_idx, dim)) = piece;
    }
  }
  if (lane == 0) {
    uint8_t* params = part + Map::kCodesBytes + row_idx * Map::kParamBytes;
    reinterpret_cast<uint16_t*>(params)[0] = row.scale;
    if constexpr (kNibbles) reinterpret_cast<uint16_t*>(params)[1] = row.low;
  }
  __syncwarp();
}

}  // namespace comet::kv
