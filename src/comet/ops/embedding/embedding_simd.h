// Widening of one row to FP32; compiled once per instruction set (row_ops_<isa>.cpp).
#pragma once

#include "comet/device/cpu/simd.h"

namespace comet {
namespace {

inline void f32_from_bf16(float* out, const uint16_t* bits, int64_t n) {
  using simd::kLanes;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) simd::store(out + i, simd::load_bf16(bits + i));
  if (i < n) {
    uint16_t tail[kLanes] = {};
    memcpy(tail, bits + i, static_cast<size_t>(n - i) * sizeof(uint16_t));
    simd::store_partial(out + i, simd::load_bf16(tail), n - i);
  }
}

inline void f32_from_f16(float* out, const uint16_t* bits, int64_t n) {
  using simd::kLanes;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) simd::store(out + i, simd::load_f16(bits + i));
  if (i < n) {
    uint16_t tail[kLanes] = {};
    memcpy(tail, bits + i, static_cast<size_t>(n - i) * sizeof(uint16_t));
    simd::store_partial(out + i, simd::load_f16(tail), n - i);
  }
}

}  // namespace
}  // namespace comet
