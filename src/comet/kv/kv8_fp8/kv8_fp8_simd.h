// Rows of kv8_fp8: E4M3, clamped to ±448 and rounded to nearest even; NaN stays NaN. Compiled once
// per instruction set, the same bits on all of them. part = codes [kTileTokens][head_dim].
#pragma once

#include <string.h>

#include "comet/kv/kv_kernels.h"

namespace comet::kv {
namespace {

constexpr float kFp8Max = 448.0F;
constexpr uint8_t kFp8NaN = 0x7F;

/// The number whose E4M3 code is `code`.
constexpr float fp8_value(int code) {
  const int exponent = code >> 3 & 15;
  const int fraction = code & 7;
  float value = static_cast<float>(exponent == 0 ? fraction : fraction + 8);
  for (int e = exponent == 0 ? 1 : exponent; e < 10; ++e) value *= 0.5F;
  for (int e = 10; e < exponent; ++e) value *= 2.0F;
  return (code & 0x80) != 0 ? -value : value;
}

struct Fp8Table {
  float values[256];
  constexpr Fp8Table() : values() {
    for (int i = 0; i < 256; ++i) values[i] = fp8_value(i);
    values[kFp8NaN] = values[kFp8NaN | 0x80] = __builtin_nanf("");
  }
};
constexpr Fp8Table kFp8Table;

/// 1 in `saturated` when |x| > 448.
inline uint8_t fp8_code(float x, int64_t& saturated) {
  if (x != x) return kFp8NaN;
  float magnitude = x < 0 ? -x : x;
  if (magnitude > kFp8Max) {
    magnitude = kFp8Max;
    saturated = 1;
  }
  uint32_t sign;
  memcpy(&sign, &x, sizeof(sign));
  sign = sign >> 24 & 0x80U;
  uint32_t bits;
  if (magnitude < 0x1p-6F) {  // multiples of 2^−9: the sum's last bits, rounded to even
    const float sum = magnitude + 0x1.8p14F;
    memcpy(&bits, &sum, sizeof(bits));
    return static_cast<uint8_t>(sign | (bits & 15U));
  }
  memcpy(&bits, &magnitude, sizeof(bits));
  bits += 0x7FFFFU + (bits >> 20 & 1U);
  return static_cast<uint8_t>(sign | ((bits >> 20) - (120U << 3)));
}

struct Kv8Fp8Rows {
  static int64_t encode_row(uint8_t* part, int64_t slot_idx, const float* x, int64_t head_dim) {
    uint8_t* codes = part + slot_idx * head_dim;
    int64_t saturated = 0;
    for (int64_t i = 0; i < head_dim; ++i) codes[i] = fp8_code(x[i], saturated);
    return saturated;
  }

  static void decode_rows(float* out, int64_t stride, const uint8_t* part, int64_t num_rows,
                          int64_t head_dim) {
    for (int64_t r = 0; r < num_rows; ++r, part += head_dim, out += stride) {
      for (int64_t i = 0; i < head_dim; ++i) out[i] = kFp8Table.values[part[i]];
    }
  }
};

}  // namespace
}  // namespace comet::kv
