// add of one row; compiled once per instruction set (row_ops_<isa>.cpp).
#pragma once

#include "comet/device/cpu/simd.h"

namespace comet {
namespace {

inline void add_row(float* x, const float* y, int64_t n) {
  using simd::kLanes;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    simd::store(x + i, simd::add(simd::load(x + i), simd::load(y + i)));
  }
  if (i < n) {
    const simd::F32 sum =
        simd::add(simd::load_partial(x + i, n - i), simd::load_partial(y + i, n - i));
    simd::store_partial(x + i, sum, n - i);
  }
}

}  // namespace
}  // namespace comet
