// gelu_backward of one row; compiled once per instruction set (training_rows_<isa>.cpp).
#pragma once

#include "comet/ops/gelu/gelu_simd.h"

namespace comet {
namespace {

/// Φ(x) + x·φ(x). Φ = 1 − q for x ≥ 0 and q below, q = erfc(|x|/√2) / 2 as in gelu_of, with which φ
/// shares exp(−x²/2).
inline simd::F32 gelu_slope(simd::F32 x) {
  const simd::F32 one = simd::splat(1.0F);
  const simd::F32 zero = simd::splat(0.0F);
  const GeluTail tail = gelu_tail(x);
  const simd::F32 cumulative = simd::select_less(x, zero, tail.q, simd::sub(one, tail.q));
  const simd::F32 density = simd::mul(tail.decay, simd::splat(0.39894228F));
  return simd::fma(x, density, cumulative);
}

inline void gelu_backward_row(float* dx, const float* dy, const float* x, int64_t n) {
  using simd::kLanes;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    simd::store(dx + i, simd::mul(simd::load(dy + i), gelu_slope(simd::load(x + i))));
  }
  if (i < n) {
    const simd::F32 slope = gelu_slope(simd::load_partial(x + i, n - i));
    simd::store_partial(dx + i, simd::mul(simd::load_partial(dy + i, n - i), slope), n - i);
  }
}

}  // namespace
}  // namespace comet
