// Rows of kv4 (docs/formats.md §3): x̂ = s·u + m, u in 0…15. Compiled once per instruction set;
// codes are the same bits on all of them (single FP32 operations, no fma where it could round).
// part = codes [kTileTokens][head_dim/2] | m FP16 [kTileTokens] | s FP16 [kTileTokens].
// Byte j of a row: value j in the low nibble, value j + head_dim/2 in the high one, so that a
// register of bytes gives two registers of neighbouring values.
#pragma once

#include "comet/device/cpu/f16_scalar.h"
#include "comet/device/cpu/simd.h"
#include "comet/kv/kv_kernels.h"
#include "comet/kv/row_range_simd.h"

namespace comet::kv {
namespace {

inline simd::F32 kv4_codes(simd::F32 x, simd::F32 m, simd::F32 s) {
  const simd::F32 u = simd::div(simd::sub(x, m), s);
  return simd::round_even(simd::min(simd::max(u, simd::splat(0.0F)), simd::splat(15.0F)));
}

struct Kv4Rows {
  static int64_t encode_row(uint8_t* part, int64_t slot_idx, const float* x, int64_t head_dim) {
    using simd::kLanes;
    const int64_t half = head_dim / 2;
    uint8_t* codes = part + slot_idx * half;
    uint16_t* mins = reinterpret_cast<uint16_t*>(part + kTileTokens * half) + slot_idx;
    uint16_t* scales = mins + kTileTokens;
    const RowRange range = range_of_row(x, head_dim);
    if (!range.finite) {  // the row reads as NaN, and its request ends with an error
      constexpr uint16_t kNaN = 0x7E00;
      *mins = *scales = kNaN;
      memset(codes, 0, static_cast<size_t>(half));
      return 0;
    }
    const simd::F16Bound min = simd::f16_floor(range.low);
    const float m = simd::f16_to_f32(min.bits);
    const simd::F16Bound scale = simd::f16_ceil((range.high - m) / 15.0F);
    const float s = simd::f16_to_f32(scale.bits);
    *mins = min.bits;
    *scales = scale.bits;
    if (s == 0.0F) {
      memset(codes, 0, static_cast<size_t>(half));
    } else {
      encode_codes(codes, x, half, simd::splat(m), simd::splat(s));
    }
    return min.saturated || scale.saturated ? 1 : 0;
  }

  static void encode_codes(uint8_t* codes, const float* x, int64_t half, simd::F32 m, simd::F32 s) {
    using simd::kLanes;
    const auto bytes_of = [&](simd::F32 low, simd::F32 high) {
      return simd::add(kv4_codes(low, m, s), simd::mul(kv4_codes(high, m, s), simd::splat(16.0F)));
    };
    int64_t j = 0;
    for (; j + kLanes <= half; j += kLanes) {
      simd::store_u8(codes + j, bytes_of(simd::load(x + j), simd::load(x + half + j)));
    }
    if (j < half) {
      uint8_t tail[kLanes];
      simd::store_u8(tail, bytes_of(simd::load_partial(x + j, half - j),
                                    simd::load_partial(x + half + j, half - j)));
      memcpy(codes + j, tail, static_cast<size_t>(half - j));
    }
  }

  static void decode_rows(float* out, int64_t stride, const uint8_t* part, int64_t num_rows,
                          int64_t head_dim) {
    using simd::kLanes;
    const int64_t half = head_dim / 2;
    float mins[kTileTokens];
    float scales[kTileTokens];
    decode_params(mins, scales, part + kTileTokens * half);
    const uint8_t* codes = part;
    for (int64_t r = 0; r < num_rows; ++r, codes += half, out += stride) {
      const simd::F32 m = simd::splat(mins[r]);
      const simd::F32 s = simd::splat(scales[r]);
      simd::F32 low;
      simd::F32 high;
      int64_t j = 0;
      // s·u is exact (11 + 4 bits), so fma and product-then-sum agree.
      for (; j + kLanes <= half; j += kLanes) {
        simd::load_nibbles(codes + j, low, high);
        simd::store(out + j, simd::fma(s, low, m));
        simd::store(out + half + j, simd::fma(s, high, m));
      }
      if (j < half) {
        uint8_t tail[kLanes] = {};
        memcpy(tail, codes + j, static_cast<size_t>(half - j));
        simd::load_nibbles(tail, low, high);
        simd::store_partial(out + j, simd::fma(s, low, m), half - j);
        simd::store_partial(out + half + j, simd::fma(s, high, m), half - j);
      }
    }
  }

  static void decode_params(float* mins, float* scales, const uint8_t* params) {
    const uint16_t* bits = reinterpret_cast<const uint16_t*>(params);
    for (int64_t i = 0; i < kTileTokens; i += simd::kLanes) {
      simd::store(mins + i, simd::load_f16(bits + i));
      simd::store(scales + i, simd::load_f16(bits + kTileTokens + i));
    }
  }
};

}  // namespace
}  // namespace comet::kv
