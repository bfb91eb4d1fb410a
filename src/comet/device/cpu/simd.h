// F32: one vector register of floats, as wide as the file's compile flags allow, so that one body
// header per kernel is compiled once per instruction set (<x>_portable.cpp, _avx2.cpp,
// _avx512.cpp). Everything is in an anonymous namespace: no two of those files share a symbol.
// Names: kLanes, splat, load/store(_partial), load_bf16, load_f16, store_bf16, load_nibbles,
// store_u8, load_s8, store_s8, add, sub, mul, div, fma, min, max, select_less, pow2, reduce_*,
// swap_lanes, negate_lanes, and below: exp, round_even. Arithmetic that docs/formats.md fixes must
// not use fma: the portable one rounds twice.
#pragma once

#if defined(__AVX512F__)
#include "comet/device/cpu/simd_avx512.h"
#elif defined(__AVX2__)
#include "comet/device/cpu/simd_avx2.h"
#else
#include "comet/device/cpu/simd_portable.h"
#endif

namespace comet::simd {
namespace {

/// Nearest whole number, ties to even, for |x| < 2²².
inline F32 round_even(F32 x) {
  const F32 magic = splat(0x1.8p23F);
  return sub(add(x, magic), magic);
}

/// eˣ within 2 ulp for x in [−87.3, 88.3]; 0 below, infinity above, NaN for NaN.
/// x = n·ln 2 + r, |r| ≤ ln 2 / 2; the Taylor series of eʳ to r⁷ errs by less than 6e-9.
inline F32 exp(F32 x) {
  const F32 low = splat(-87.33F);
  const F32 high = splat(88.37F);
  const F32 inside = min(high, max(low, x));  // x last: NaN passes
  const F32 n = round_even(mul(inside, splat(1.44269504F)));
  // The upper part of ln 2 has 9 bits, so n · upper is exact.
  F32 r = fma(n, splat(-0.693359375F), inside);
  r = fma(n, splat(2.12194440e-4F), r);
  F32 p = splat(1.0F / 5040.0F);
  p = fma(p, r, splat(1.0F / 720.0F));
  p = fma(p, r, splat(1.0F / 120.0F));
  p = fma(p, r, splat(1.0F / 24.0F));
  p = fma(p, r, splat(1.0F / 6.0F));
  p = fma(p, r, splat(0.5F));
  p = fma(mul(p, r), r, r);
  const F32 y = mul(add(p, splat(1.0F)), pow2(n));
  const F32 bounded = select_less(high, x, splat(__builtin_inff()), y);
  return select_less(x, low, splat(0.0F), bounded);
}

}  // namespace
}  // namespace comet::simd
