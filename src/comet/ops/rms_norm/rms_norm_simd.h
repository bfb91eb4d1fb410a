// rms_norm of one row; compiled once per instruction set (row_ops_<isa>.cpp).
#pragma once

#include "comet/device/cpu/simd.h"

namespace comet {
namespace {

inline void rms_norm_row(float* out, const float* x, const float* weight, int64_t n, float eps) {
  using simd::kLanes;
  // Four sums: one alone would wait for each fma before it starts the next.
  simd::F32 sums[4] = {simd::splat(0.0F), simd::splat(0.0F), simd::splat(0.0F), simd::splat(0.0F)};
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    for (int j = 0; j < 4; ++j) {
      const simd::F32 a = simd::load(x + i + j * kLanes);
      sums[j] = simd::fma(a, a, sums[j]);
    }
  }
  for (; i + kLanes <= n; i += kLanes) {
    const simd::F32 a = simd::load(x + i);
    sums[0] = simd::fma(a, a, sums[0]);
  }
  if (i < n) {
    const simd::F32 a = simd::load_partial(x + i, n - i);
    sums[1] = simd::fma(a, a, sums[1]);
  }
  const float sum =
      simd::reduce_add(simd::add(simd::add(sums[0], sums[1]), simd::add(sums[2], sums[3])));
  const simd::F32 scale = simd::splat(1.0F / __builtin_sqrtf(sum / static_cast<float>(n) + eps));
  for (i = 0; i + kLanes <= n; i += kLanes) {
    const simd::F32 a = simd::mul(simd::load(x + i), scale);
    simd::store(out + i, simd::mul(a, simd::load(weight + i)));
  }
  if (i < n) {
    const simd::F32 a = simd::mul(simd::load_partial(x + i, n - i), scale);
    simd::store_partial(out + i, simd::mul(a, simd::load_partial(weight + i, n - i)), n - i);
  }
}

}  // namespace
}  // namespace comet
