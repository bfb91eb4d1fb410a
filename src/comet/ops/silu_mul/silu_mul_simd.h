// silu_mul of one row; compiled once per instruction set (row_ops_<isa>.cpp).
#pragma once

#include "comet/device/cpu/simd.h"

namespace comet {
namespace {

inline simd::F32 silu_times(simd::F32 gate, simd::F32 up) {
  const simd::F32 one = simd::splat(1.0F);
  const simd::F32 decay = simd::exp(simd::sub(simd::splat(0.0F), gate));
  return simd::mul(simd::div(gate, simd::add(one, decay)), up);
}

inline void silu_mul_row(float* out, const float* gate, const float* up, int64_t n) {
  using simd::kLanes;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    simd::store(out + i, silu_times(simd::load(gate + i), simd::load(up + i)));
  }
  if (i < n) {
    const simd::F32 y =
        silu_times(simd::load_partial(gate + i, n - i), simd::load_partial(up + i, n - i));
    simd::store_partial(out + i, y, n - i);
  }
}

}  // namespace
}  // namespace comet
