// FP8 E4M3 (the "fn" form of OCP FP8: bias 7, largest 448, NaN 0x7F and 0xFF, no infinity) and its
// conversions. Callers: whatever makes or reads 8-bit float codes.
#pragma once

#include "comet/tensor/dtype.h"

namespace comet {

constexpr float kMaxFloat8E4M3 = 448.0F;

struct Float8E4M3 {
  uint8_t bits = 0;
};

template <>
struct DTypeOf<Float8E4M3> {
  static constexpr DType value = DType::kF8E4M3;
};

float to_float(Float8E4M3 x);
/// Clamped to ±448 (infinity too), then rounded to nearest even; NaN stays NaN.
Float8E4M3 to_float8_e4m3(float x);

}  // namespace comet
