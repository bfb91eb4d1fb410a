// The numeric formats (docs/formats.md §1) are defined by single IEEE operations: these tests fail
// when the build contracts a·b + c, reorders sums, or flushes subnormal numbers.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "build_flags_kernel.h"

namespace comet {
namespace {

// Read through volatile, so that nothing is folded at compile time.
float opaque(float x) {
  volatile float held = x;
  return held;
}

TEST(BuildFlags, ProductAndSumAreNotContracted) {
  const float a = opaque(1.0F + std::ldexp(1.0F, -12));
  const float c = opaque(-(1.0F + std::ldexp(1.0F, -11)));
  // a·a = 1 + 2⁻¹¹ + 2⁻²⁴ rounds to 1 + 2⁻¹¹, so two roundings leave 0 and one leaves 2⁻²⁴.
  EXPECT_EQ(a * a + c, 0.0F);
  EXPECT_EQ(std::fma(a, a, c), std::ldexp(1.0F, -24));
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    EXPECT_EQ(multiply_add_avx2(a, a, c), 0.0F);
  }
}

TEST(BuildFlags, SumsAreNotReordered) {
  const float large = opaque(1e8F);
  const float small = opaque(1.0F);
  EXPECT_EQ((small + large) - large, 0.0F);
}

TEST(BuildFlags, SubnormalsAreKept) {
  const float half_min = opaque(std::numeric_limits<float>::min()) / opaque(2.0F);
  EXPECT_GT(half_min, 0.0F);
  EXPECT_EQ(opaque(std::numeric_limits<float>::denorm_min()) * opaque(1.0F),
            std::numeric_limits<float>::denorm_min());
}

TEST(BuildFlags, NanAndInfinityAreHonoured) {
  const float nan = opaque(std::numeric_limits<float>::quiet_NaN());
  const float infinity = opaque(std::numeric_limits<float>::infinity());
  EXPECT_FALSE(nan == nan);
  EXPECT_TRUE(std::isnan(nan));
  EXPECT_TRUE(std::isinf(infinity));
  EXPECT_TRUE(std::signbit(opaque(0.0F) * opaque(-1.0F)));
}

}  // namespace
}  // namespace comet
