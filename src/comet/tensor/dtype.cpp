#include "comet/tensor/dtype.h"

#include <array>

namespace comet {
namespace {

struct Row {
  DType dtype;
  std::string_view name;
  int64_t bytes;
};
constexpr std::array<Row, 8> kRows{{{DType::kF32, "F32", 4},
                                    {DType::kF16, "F16", 2},
                                    {DType::kBF16, "BF16", 2},
                                    {DType::kI8, "I8", 1},
                                    {DType::kU8, "U8", 1},
                                    {DType::kI32, "I32", 4},
                                    {DType::kI64, "I64", 8},
                                    {DType::kF8E4M3, "F8_E4M3", 1}}};

}  // namespace

int64_t dtype_bytes(DType dtype) { return kRows.at(static_cast<size_t>(dtype)).bytes; }

std::string_view dtype_name(DType dtype) { return kRows.at(static_cast<size_t>(dtype)).name; }

Result<DType> parse_dtype(std::string_view name) {
  for (const Row& row : kRows) {
    if (row.name == name) return row.dtype;
  }
  return make_error(ErrorCode::kUnsupported,
                    "dtype '{}' is not supported (F32, F16, BF16, I8, U8, I32, I64, F8_E4M3)",
                    name);
}

float to_float(Float16 x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000U) << 16;
  const uint32_t exponent = (x.bits >> 10) & 0x1FU;
  const uint32_t mantissa = x.bits & 0x3FFU;
  if (exponent == 0) {  // zero or subnormal: mantissa · 2⁻²⁴
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24F;
    return std::bit_cast<float>(std::bit_cast<uint32_t>(magnitude) | sign);
  }
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7F800000U | (mantissa << 13));
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

BFloat16 to_bfloat16(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  if ((bits & 0x7FFFFFFFU) > 0x7F800000U) return {static_cast<uint16_t>((bits >> 16) | 0x40U)};
  return {static_cast<uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16)};
}

Float16 to_float16(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000U);
  const uint32_t magnitude = bits & 0x7FFFFFFFU;
  if (magnitude > 0x7F800000U) return {static_cast<uint16_t>(sign | 0x7E00U)};
  if (magnitude >= 0x477FF000U)
    return {static_cast<uint16_t>(sign | 0x7C00U)};  // ≥ 65520 rounds to infinity
  if (magnitude <
      0x38800000U) {  // below 2⁻¹⁴: adding 0.5 leaves rne(x · 2²⁴) in the low mantissa bits
    const float shifted = std::bit_cast<float>(magnitude) + 0.5F;
    return {static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3F000000U))};
  }
  const uint32_t rounded = magnitude + 0xFFFU + ((magnitude >> 13) & 1U);
  return {static_cast<uint16_t>(sign | ((rounded - 0x38000000U) >> 13))};
}

}  // namespace comet
