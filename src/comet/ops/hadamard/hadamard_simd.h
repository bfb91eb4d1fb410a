// The Hadamard transform of docs/formats.md §1 in place; compiled once per instruction set
// (row_ops_<isa>.cpp). Additions in the written order only, so every instruction set gives the same
// bits.
#pragma once

#include "comet/device/cpu/simd.h"

namespace comet {
namespace {

/// Stage of a stride inside a register: lane i becomes a + b or a − b of the pair (i, i ^ stride).
template <int kStride>
inline simd::F32 hadamard_lanes(simd::F32 x) {
  if constexpr (kStride < simd::kLanes) {
    return simd::add(simd::swap_lanes<kStride>(x), simd::negate_lanes<kStride>(x));
  }
  return x;
}

inline void hadamard_scalar(float* x, int64_t n, float factor) {
  for (int64_t stride = 1; stride < n; stride *= 2) {
    for (int64_t i = 0; i < n; ++i) {
      if ((i & stride) != 0) continue;
      const float a = x[i];
      const float b = x[i + stride];
      x[i] = a + b;
      x[i + stride] = a - b;
    }
  }
  for (int64_t i = 0; i < n; ++i) x[i] *= factor;
}

inline void hadamard(float* x, int64_t n) {
  using simd::kLanes;
  const auto factor = static_cast<float>(1.0 / __builtin_sqrt(static_cast<double>(n)));
  if (n < kLanes) return hadamard_scalar(x, n, factor);
  for (int64_t i = 0; i < n; i += kLanes) {
    simd::F32 v = hadamard_lanes<1>(simd::load(x + i));
    v = hadamard_lanes<2>(v);
    v = hadamard_lanes<4>(v);
    v = hadamard_lanes<8>(v);
    simd::store(x + i, v);
  }
  for (int64_t stride = kLanes; stride < n; stride *= 2) {
    for (int64_t block = 0; block < n; block += 2 * stride) {
      for (int64_t i = block; i < block + stride; i += kLanes) {
        const simd::F32 a = simd::load(x + i);
        const simd::F32 b = simd::load(x + i + stride);
        simd::store(x + i, simd::add(a, b));
        simd::store(x + i + stride, simd::sub(a, b));
      }
    }
  }
  const simd::F32 scale = simd::splat(factor);
  for (int64_t i = 0; i < n; i += kLanes) simd::store(x + i, simd::mul(simd::load(x + i), scale));
}

}  // namespace
}  // namespace comet
