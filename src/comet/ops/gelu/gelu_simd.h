// gelu of one row; compiled once per instruction set (row_ops_<isa>.cpp).
#pragma once

#include "comet/device/cpu/simd.h"

namespace comet {
namespace {

/// q = erfc(|x|/√2) / 2 and exp(−x²/2).
/// erfc(z) ≈ t·p(t)·exp(−z²), t = 1 / (1 + 0.3275911 z), within 1.5e-7 (Abramowitz, Stegun 7.1.26).
struct GeluTail {
  simd::F32 q;
  simd::F32 decay;
};

inline GeluTail gelu_tail(simd::F32 x) {
  const simd::F32 one = simd::splat(1.0F);
  const simd::F32 zero = simd::splat(0.0F);
  const simd::F32 magnitude = simd::max(x, simd::sub(zero, x));
  const simd::F32 z = simd::mul(magnitude, simd::splat(0.70710678F));
  const simd::F32 t = simd::div(one, simd::fma(simd::splat(0.3275911F), z, one));
  simd::F32 p = simd::splat(1.061405429F);
  p = simd::fma(p, t, simd::splat(-1.453152027F));
  p = simd::fma(p, t, simd::splat(1.421413741F));
  p = simd::fma(p, t, simd::splat(-0.284496736F));
  p = simd::fma(p, t, simd::splat(0.254829592F));
  const simd::F32 decay = simd::exp(simd::sub(zero, simd::mul(z, z)));
  return {simd::mul(simd::splat(0.5F), simd::mul(simd::mul(p, t), decay)), decay};
}

/// (Φ(x) − 1/2) / x as a polynomial in t = 2x²/kGeluRange² − 1, lowest power first: minimax of
/// x·Φ(x), within 1.2e-8 · max(1, |x|). A division and an exponential less than gelu_tail.
constexpr float kGeluRange = 5.2F;  // 1 − Φ is 1e-7 there
constexpr float kGeluPolynomial[] = {
    0.1359499841928482F,   -0.06774380058050156F,  0.050026100128889084F,   -0.03992558270692825F,
    0.031962573528289795F, -0.02476160041987896F,  0.018131684511899948F,   -0.012361147440969944F,
    0.008018985390663147F, -0.005051698070019484F, 0.002645143074914813F,   -0.000993429683148861F,
    0.000616868142969906F, -0.000556899642106146F, 0.00019665370928123593F,
};

/// x · Φ(x); 0 where x < −kGeluRange.
inline simd::F32 gelu_of(simd::F32 x) {
  constexpr int kNumTerms = sizeof(kGeluPolynomial) / sizeof(float);
  const simd::F32 low = simd::splat(-kGeluRange);
  const simd::F32 inside = simd::min(simd::splat(kGeluRange), x);  // NaN passes
  const simd::F32 t = simd::fma(simd::mul(inside, inside),
                                simd::splat(2.0F / (kGeluRange * kGeluRange)), simd::splat(-1.0F));
  simd::F32 p = simd::splat(kGeluPolynomial[kNumTerms - 1]);
#pragma GCC unroll 16
  for (int i = kNumTerms - 2; i >= 0; --i) p = simd::fma(p, t, simd::splat(kGeluPolynomial[i]));
  const simd::F32 y = simd::mul(x, simd::fma(p, inside, simd::splat(0.5F)));
  return simd::select_less(x, low, simd::splat(0.0F), y);
}

inline void gelu_row(float* out, const float* x, int64_t n) {
  using simd::kLanes;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) simd::store(out + i, gelu_of(simd::load(x + i)));
  if (i < n) simd::store_partial(out + i, gelu_of(simd::load_partial(x + i, n - i)), n - i);
}

}  // namespace
}  // namespace comet
