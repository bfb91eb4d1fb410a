// The range of one row, for the formats that code a row between its extremes (kv4, kv8). Compiled
// once per instruction set; the same result on all of them.
#pragma once

#include "comet/device/cpu/simd.h"

namespace comet::kv {
namespace {

struct RowRange {
  float low;
  float high;
  bool finite;
};

inline RowRange range_of_row(const float* x, int64_t n) {
  using simd::kLanes;
  RowRange range = {x[0], x[0], true};
  simd::F32 low = simd::splat(x[0]);
  simd::F32 high = low;
  simd::F32 nothing = simd::splat(0.0F);  // stays 0 while all values are finite: 0·∞ is NaN
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const simd::F32 v = simd::load(x + i);
    low = simd::min(low, v);
    high = simd::max(high, v);
    nothing = simd::add(nothing, simd::mul(v, simd::splat(0.0F)));
  }
  range.low = simd::reduce_min(low);
  range.high = simd::reduce_max(high);
  float rest = simd::reduce_add(nothing);
  for (; i < n; ++i) {
    range.low = x[i] < range.low ? x[i] : range.low;
    range.high = x[i] > range.high ? x[i] : range.high;
    rest += x[i] * 0.0F;
  }
  range.finite = rest == 0.0F;
  return range;
}

}  // namespace
}  // namespace comet::kv
