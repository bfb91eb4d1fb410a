// Scalar IEEE binary16 conversions for files compiled per instruction set: exact widening, and
// narrowing toward −∞ and +∞ with saturation. In an anonymous namespace like simd.h.
#pragma once

#include <stdint.h>
#include <string.h>

namespace comet::simd {
namespace {

inline float f16_to_f32(uint16_t half) {
  // Exponent and mantissa moved to their FP32 places; one product with 2¹¹² repairs the bias and
  // subnormals alike. Infinity and NaN keep an all-ones exponent.
  const uint32_t magnitude = static_cast<uint32_t>(half & 0x7FFFU) << 13;
  float x;
  memcpy(&x, &magnitude, sizeof(x));
  x *= 0x1p112F;
  uint32_t bits;
  memcpy(&bits, &x, sizeof(x));
  if ((half & 0x7C00U) == 0x7C00U) bits = 0x7F800000U | (magnitude & 0x7FFFFFU);
  bits |= static_cast<uint32_t>(half & 0x8000U) << 16;
  memcpy(&x, &bits, sizeof(x));
  return x;
}

/// A finite FP32 narrowed; `saturated` when the bound is beyond ±65504.
struct F16Bound {
  uint16_t bits;
  bool saturated;
};

/// |x| truncated to FP16 (65504 at most), or, with `away`, the next one up unless exact.
inline F16Bound f16_magnitude(float x, bool away) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof(x));
  bits &= 0x7FFFFFFFU;
  if (bits >= 0x47800000U) return {0x7BFF, away};  // 65536 and more
  uint32_t truncated;
  bool exact;
  if (bits >= 0x38800000U) {  // normal: 2⁻¹⁴ and more
    truncated = (bits - 0x38000000U) >> 13;
    exact = (bits & 0x1FFFU) == 0;
  } else {  // multiples of 2⁻²⁴
    float scaled;
    memcpy(&scaled, &bits, sizeof(scaled));
    scaled *= 0x1p24F;
    truncated = static_cast<uint32_t>(scaled);
    exact = static_cast<float>(truncated) == scaled;
  }
  const uint32_t rounded = truncated + (away && !exact ? 1U : 0U);
  if (rounded > 0x7BFFU) return {0x7BFF, true};
  return {static_cast<uint16_t>(rounded), false};
}

/// The largest FP16 ≤ x (+0 for zero); −65504, saturated, below that.
inline F16Bound f16_floor(float x) {
  const bool negative = x < 0.0F;
  F16Bound bound = f16_magnitude(x, negative);
  if (negative) bound.bits = static_cast<uint16_t>(bound.bits | 0x8000U);
  return bound;
}

/// The smallest FP16 ≥ x, for x ≥ 0; 65504, saturated, above that.
inline F16Bound f16_ceil(float x) { return f16_magnitude(x, true); }

}  // namespace
}  // namespace comet::simd
