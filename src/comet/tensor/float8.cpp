#include "comet/tensor/float8.h"

namespace comet {

float to_float(Float8E4M3 x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x80U) << 24;
  const uint32_t exponent = (x.bits >> 3) & 15U;
  const uint32_t mantissa = x.bits & 7U;
  if (exponent == 0) {  // zero or subnormal: mantissa · 2⁻⁹
    const float magnitude = static_cast<float>(mantissa) * 0x1p-9F;
    return std::bit_cast<float>(std::bit_cast<uint32_t>(magnitude) | sign);
  }
  if (exponent == 15 && mantissa == 7) return std::bit_cast<float>(sign | 0x7FC00000U);
  return std::bit_cast<float>(sign | ((exponent + 120) << 23) | (mantissa << 20));
}

Float8E4M3 to_float8_e4m3(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  const auto sign = static_cast<uint8_t>((bits >> 24) & 0x80U);
  const uint32_t magnitude = bits & 0x7FFFFFFFU;
  if (magnitude > 0x7F800000U) return {static_cast<uint8_t>(sign | 0x7FU)};
  if (magnitude >= 0x43E00000U) return {static_cast<uint8_t>(sign | 0x7EU)};  // ≥ 448
  if (magnitude < 0x3C800000U) {
    // Below 2⁻⁶: adding 2¹⁴ leaves rne(x · 2⁹) in the low mantissa bits; 8 is the smallest normal.
    const float shifted = std::bit_cast<float>(magnitude) + 0x1p14F;
    return {static_cast<uint8_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x46800000U))};
  }
  const uint32_t rounded = magnitude + 0x7FFFFU + ((magnitude >> 20) & 1U);
  return {static_cast<uint8_t>(sign | ((rounded - 0x3C000000U) >> 20))};
}

}  // namespace comet
