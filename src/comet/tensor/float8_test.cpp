// All 256 codes against the definition, and rounding against a search over all of them in float64.
#include "comet/tensor/float8.h"

#include <gtest/gtest.h>

#include <cmath>

namespace comet {
namespace {

double value_of(int code) {
  const int exponent = code >> 3 & 15;
  const int mantissa = code & 7;
  const double magnitude =
      exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
  return (code & 0x80) != 0 ? -magnitude : magnitude;
}

TEST(Float8, EveryCodeHasItsValueAndComesBack) {
  for (int code = 0; code < 256; ++code) {
    const float value = to_float(Float8E4M3{static_cast<uint8_t>(code)});
    const Float8E4M3 back = to_float8_e4m3(value);
    if ((code & 0x7F) == 0x7F) {
      EXPECT_TRUE(std::isnan(value)) << code;
    } else {
      EXPECT_EQ(double{value}, value_of(code)) << code;
    }
    EXPECT_EQ(int{back.bits}, code);
  }
  EXPECT_EQ(to_float(Float8E4M3{0x7E}), kMaxFloat8E4M3);
}

/// The code of the nearest magnitude, ties to the even code.
int nearest(double magnitude) {
  int best = 0;
  for (int code = 1; code <= 0x7E; ++code) {
    const double d = std::abs(value_of(code) - magnitude);
    const double least = std::abs(value_of(best) - magnitude);
    if (d < least || (d == least && code % 2 == 0)) best = code;
  }
  return best;
}

TEST(Float8, RoundsToNearestEvenAndClamps) {
  for (int code = 0; code < 0x7E; ++code) {
    const double low = value_of(code);
    const double high = value_of(code + 1);
    const auto half = static_cast<float>((low + high) / 2);
    for (const float x : {half, std::nextafter(half, 0.0F), std::nextafter(half, 1e9F),
                          static_cast<float>(low + (high - low) / 3)}) {
      EXPECT_EQ(int{to_float8_e4m3(x).bits}, nearest(x)) << x;
      EXPECT_EQ(int{to_float8_e4m3(-x).bits}, nearest(x) | 0x80) << x;
    }
  }
  for (const float x : {448.0F, 449.0F, 464.0F, 1e30F, HUGE_VALF}) {
    EXPECT_EQ(int{to_float8_e4m3(x).bits}, 0x7E) << x;
    EXPECT_EQ(int{to_float8_e4m3(-x).bits}, 0xFE) << x;
  }
  EXPECT_EQ(int{to_float8_e4m3(1e-40F).bits}, 0);
  EXPECT_EQ(int{to_float8_e4m3(std::nanf("")).bits}, 0x7F);
}

}  // namespace
}  // namespace comet
