// Element types of tensors. Sub-byte data is never a DType: it is a format's bytes (U8).
#pragma once

#include <bit>
#include <cstdint>
#include <string_view>

#include "comet/base/result.h"

namespace comet {

enum class DType : uint8_t { kF32, kF16, kBF16, kI8, kU8, kI32, kI64, kF8E4M3 };

/// Bytes of one element.
int64_t dtype_bytes(DType dtype);
/// The safetensors name: F32, F16, BF16, I8, U8, I32, I64, F8_E4M3.
std::string_view dtype_name(DType dtype);
Result<DType> parse_dtype(std::string_view name);

/// BF16: the upper half of an FP32.
struct BFloat16 {
  uint16_t bits = 0;
};
/// IEEE binary16.
struct Float16 {
  uint16_t bits = 0;
};

inline float to_float(BFloat16 x) {
  return std::bit_cast<float>(static_cast<uint32_t>(x.bits) << 16);
}
float to_float(Float16 x);
/// Round to nearest even; NaN stays NaN.
BFloat16 to_bfloat16(float x);
/// Round to nearest even; overflow gives infinity.
Float16 to_float16(float x);

template <typename T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::kF32;
};
template <>
struct DTypeOf<BFloat16> {
  static constexpr DType value = DType::kBF16;
};
template <>
struct DTypeOf<Float16> {
  static constexpr DType value = DType::kF16;
};
template <>
struct DTypeOf<int8_t> {
  static constexpr DType value = DType::kI8;
};
template <>
struct DTypeOf<uint8_t> {
  static constexpr DType value = DType::kU8;
};
template <>
struct DTypeOf<int32_t> {
  static constexpr DType value = DType::kI32;
};
template <>
struct DTypeOf<int64_t> {
  static constexpr DType value = DType::kI64;
};

}  // namespace comet
