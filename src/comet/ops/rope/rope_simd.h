// rope of one head; compiled once per instruction set (row_ops_<isa>.cpp). No fma: the same bits
// everywhere.
#pragma once

#include "comet/device/cpu/simd.h"

namespace comet {
namespace {

inline void rope_row(float* x, const float* cosines, const float* sines, int64_t num_pairs) {
  using simd::kLanes;
  float* y = x + num_pairs;
  int64_t i = 0;
  for (; i + kLanes <= num_pairs; i += kLanes) {
    const simd::F32 c = simd::load(cosines + i);
    const simd::F32 s = simd::load(sines + i);
    const simd::F32 a = simd::load(x + i);
    const simd::F32 b = simd::load(y + i);
    simd::store(x + i, simd::sub(simd::mul(a, c), simd::mul(b, s)));
    simd::store(y + i, simd::add(simd::mul(b, c), simd::mul(a, s)));
  }
  for (; i < num_pairs; ++i) {
    const float a = x[i];
    const float b = y[i];
    x[i] = a * cosines[i] - b * sines[i];
    y[i] = b * cosines[i] + a * sines[i];
  }
}

}  // namespace
}  // namespace comet
