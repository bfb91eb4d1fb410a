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

/// x · Φ(x) = x − x·q for x ≥ 0 and x·q below, so that nothing cancels.
inline simd::F32 gelu_of(simd::F32 x) {
  const simd::F32 tail = simd::mul(x, gelu_tail(x).q);
  return simd::select_less(x, simd::splat(0.0F), tail, simd::sub(x, tail));
}

inline void gelu_row(float* out, const float* x, int64_t n) {
  using simd::kLanes;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) simd::store(out + i, gelu_of(simd::load(x + i)));
  if (i < n) simd::store_partial(out + i, gelu_of(simd::load_partial(x + i, n - i)), n - i);
}

}  // namespace
}  // namespace comet
