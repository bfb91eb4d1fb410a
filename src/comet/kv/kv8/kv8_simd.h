// Rows of kv8 (docs/formats.md §3): x̂ = s·q, q in −127…127, s = FP16(absmax/127) rounded up.
// Compiled once per instruction set; codes are the same bits on all of them (single FP32
// operations). part = codes s8 [kTileTokens][head_dim] | s FP16 [kTileTokens].
#pragma once

#include "comet/device/cpu/f16_scalar.h"
#include "comet/device/cpu/simd.h"
#include "comet/kv/kv_kernels.h"
#include "comet/kv/row_range_simd.h"

namespace comet::kv {
namespace {

inline simd::F32 kv8_codes(simd::F32 x, simd::F32 s) {
  const simd::F32 q = simd::div(x, s);
  return simd::round_even(simd::min(simd::max(q, simd::splat(-127.0F)), simd::splat(127.0F)));
}

struct Kv8Rows {
  static int64_t encode_row(uint8_t* part, int64_t slot_idx, const float* x, int64_t head_dim) {
    using simd::kLanes;
    int8_t* codes = reinterpret_cast<int8_t*>(part) + slot_idx * head_dim;
    uint16_t* scale_bits = reinterpret_cast<uint16_t*>(part + kTileTokens * head_dim) + slot_idx;
    const RowRange range = range_of_row(x, head_dim);
    if (!range.finite) {  // the row reads as NaN, and its request ends with an error
      constexpr uint16_t kNaN = 0x7E00;
      *scale_bits = kNaN;
      memset(codes, 0, static_cast<size_t>(head_dim));
      return 0;
    }
    const float absmax = range.high > -range.low ? range.high : -range.low;
    const simd::F16Bound scale = simd::f16_ceil(absmax / 127.0F);
    *scale_bits = scale.bits;
    if (scale.bits == 0) {
      memset(codes, 0, static_cast<size_t>(head_dim));
      return 0;
    }
    const simd::F32 s = simd::splat(simd::f16_to_f32(scale.bits));
    int64_t i = 0;
    for (; i + kLanes <= head_dim; i += kLanes) {
      simd::store_s8(codes + i, kv8_codes(simd::load(x + i), s));
    }
    if (i < head_dim) {
      int8_t tail[kLanes];
      simd::store_s8(tail, kv8_codes(simd::load_partial(x + i, head_dim - i), s));
      memcpy(codes + i, tail, static_cast<size_t>(head_dim - i));
    }
    return scale.saturated ? 1 : 0;
  }

  static void decode_rows(float* out, int64_t stride, const uint8_t* part, int64_t num_rows,
                          int64_t head_dim) {
    using simd::kLanes;
    const int8_t* codes = reinterpret_cast<const int8_t*>(part);
    const uint16_t* scale_bits = reinterpret_cast<const uint16_t*>(part + kTileTokens * head_dim);
    float scales[kTileTokens];
    for (int64_t i = 0; i < kTileTokens; i += kLanes) {
      simd::store(scales + i, simd::load_f16(scale_bits + i));
    }
    for (int64_t r = 0; r < num_rows; ++r, codes += head_dim, out += stride) {
      const simd::F32 s = simd::splat(scales[r]);
      int64_t i = 0;
      for (; i + kLanes <= head_dim; i += kLanes) {
        simd::store(out + i, simd::mul(simd::load_s8(codes + i), s));
      }
      if (i < head_dim) {
        int8_t tail[kLanes] = {};
        memcpy(tail, codes + i, static_cast<size_t>(head_dim - i));
        simd::store_partial(out + i, simd::mul(simd::load_s8(tail), s), head_dim - i);
      }
    }
  }
};

}  // namespace
}  // namespace comet::kv
