// layer_norm of one row; compiled once per instruction set (row_ops_<isa>.cpp).
#pragma once

#include "comet/device/cpu/simd.h"
#include "comet/ops/row_ops.h"

namespace comet {
namespace {

/// Σ f(x[i]) over n values, f of a whole vector; lanes beyond n count as `fill`, with f(fill) = 0.
template <typename F>
inline float row_sum(const float* x, int64_t n, simd::F32 fill, const F& f) {
  using simd::kLanes;
  simd::F32 sums[2] = {simd::splat(0.0F), simd::splat(0.0F)};
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    sums[0] = simd::add(sums[0], f(simd::load(x + i)));
    sums[1] = simd::add(sums[1], f(simd::load(x + i + kLanes)));
  }
  for (; i < n; i += kLanes) {
    float padded[kLanes];
    simd::store(padded, fill);
    for (int64_t j = i; j < n && j < i + kLanes; ++j) padded[j - i] = x[j];
    sums[0] = simd::add(sums[0], f(simd::load(padded)));
  }
  return simd::reduce_add(simd::add(sums[0], sums[1]));
}

inline void layer_norm_row(float* out, const float* x, const LayerNormRow& row) {
  using simd::kLanes;
  const int64_t n = row.n;
  const float count = static_cast<float>(n);
  const float sum = row_sum(x, n, simd::splat(0.0F), [](simd::F32 a) { return a; });
  const simd::F32 mean = simd::splat(sum / count);
  // The sum of squares of what is centred already: no cancellation where the mean is large.
  const float squares = row_sum(x, n, mean, [&](simd::F32 a) {
    const simd::F32 centred = simd::sub(a, mean);
    return simd::mul(centred, centred);
  });
  const simd::F32 scale = simd::splat(1.0F / __builtin_sqrtf(squares / count + row.eps));
  const auto normed = [&](simd::F32 a, simd::F32 weight, simd::F32 bias) {
    return simd::fma(simd::mul(simd::sub(a, mean), scale), weight, bias);
  };
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    simd::store(out + i,
                normed(simd::load(x + i), simd::load(row.weight + i), simd::load(row.bias + i)));
  }
  if (i < n) {
    const simd::F32 y =
        normed(simd::load_partial(x + i, n - i), simd::load_partial(row.weight + i, n - i),
               simd::load_partial(row.bias + i, n - i));
    simd::store_partial(out + i, y, n - i);
  }
}

}  // namespace
}  // namespace comet
