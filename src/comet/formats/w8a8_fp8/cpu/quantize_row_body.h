// Body of quantize_row, included by one file per instruction set (hence the unnamed namespace).
// Plain loops that the compiler turns into vectors; every set gives the same codes.
#pragma once

#include <stdint.h>
#include <string.h>

#include "comet/formats/w8a8_fp8/cpu/quantize_row.h"

namespace comet::formats::w8a8_fp8::cpu {
namespace {

inline uint32_t bits_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof(bits));
  return bits;
}

/// to_float8_e4m3 of |x| ≤ 448 without branches.
inline uint32_t e4m3_bits(float x) {
  const uint32_t bits = bits_of(x);
  const uint32_t magnitude = bits & 0x7FFFFFFFU;
  float size;
  memcpy(&size, &magnitude, sizeof(size));
  // Below 2⁻⁶: adding 2¹⁴ leaves rne(x · 2⁹) in the low mantissa bits.
  const uint32_t subnormal = bits_of(size + 0x1p14F) - 0x46800000U;
  const uint32_t normal = (magnitude + 0x7FFFFU + ((magnitude >> 20) & 1U) - 0x3C000000U) >> 20;
  return (bits >> 24 & 0x80U) | (magnitude < 0x3C800000U ? subnormal : normal);
}

inline float quantize_row_body(const float* x, int64_t k, uint8_t* codes) {
  constexpr int32_t kInfinityBits = 0x7F800000;
  constexpr float kSmallest = 0x1p-100F;
  constexpr float kLimit = 448.0F;
  int32_t top = 0;  // of |x|: as integers they compare like the floats, with Inf and NaN on top
  for (int64_t i = 0; i < k; ++i) {
    const auto bits = static_cast<int32_t>(bits_of(x[i]) & 0x7FFFFFFFU);
    top = bits > top ? bits : top;
  }
  float a;
  memcpy(&a, &top, sizeof(a));
  const bool finite = top < kInfinityBits;
  if (!finite || a < kSmallest) {
    memset(codes, 0, static_cast<size_t>(k));
    return finite ? 0.0F : __builtin_nanf("");
  }
  const float r = kLimit / a;
  for (int64_t i = 0; i < k; ++i) {
    float v = x[i] * r;
    v = v < -kLimit ? -kLimit : v;
    v = v > kLimit ? kLimit : v;
    codes[i] = static_cast<uint8_t>(e4m3_bits(v));
  }
  return a / kLimit;
}

}  // namespace
}  // namespace comet::formats::w8a8_fp8::cpu
