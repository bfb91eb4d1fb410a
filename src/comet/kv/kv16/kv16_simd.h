// Rows of kv16: part = BF16 [kTileTokens][head_dim]. Compiled once per instruction set.
#pragma once

#include "comet/device/cpu/simd.h"

namespace comet::kv {
namespace {

struct Kv16Rows {
  static int64_t encode_row(uint8_t* part, int64_t slot_idx, const float* x, int64_t head_dim) {
    using simd::kLanes;
    uint16_t* row = reinterpret_cast<uint16_t*>(part) + slot_idx * head_dim;
    int64_t i = 0;
    for (; i + kLanes <= head_dim; i += kLanes) simd::store_bf16(row + i, simd::load(x + i));
    if (i < head_dim) {
      uint16_t tail[kLanes];
      simd::store_bf16(tail, simd::load_partial(x + i, head_dim - i));
      memcpy(row + i, tail, static_cast<size_t>(head_dim - i) * sizeof(uint16_t));
    }
    return 0;
  }

  static void decode_rows(float* out, int64_t stride, const uint8_t* part, int64_t num_rows,
                          int64_t head_dim) {
    using simd::kLanes;
    const uint16_t* row = reinterpret_cast<const uint16_t*>(part);
    for (int64_t r = 0; r < num_rows; ++r, row += head_dim, out += stride) {
      int64_t i = 0;
      for (; i + kLanes <= head_dim; i += kLanes) simd::store(out + i, simd::load_bf16(row + i));
      if (i < head_dim) {
        uint16_t tail[kLanes] = {};
        memcpy(tail, row + i, static_cast<size_t>(head_dim - i) * sizeof(uint16_t));
        simd::store_partial(out + i, simd::load_bf16(tail), head_dim - i);
      }
    }
  }
};

}  // namespace
}  // namespace comet::kv
