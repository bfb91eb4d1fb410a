// Rows of kv32: part = FP32 [kTileTokens][head_dim]. Compiled once per instruction set.
#pragma once

#include <stdint.h>
#include <string.h>

namespace comet::kv {
namespace {

struct Kv32Rows {
  static int64_t encode_row(uint8_t* part, int64_t slot_idx, const float* x, int64_t head_dim) {
    const size_t row_bytes = static_cast<size_t>(head_dim) * sizeof(float);
    memcpy(part + static_cast<size_t>(slot_idx) * row_bytes, x, row_bytes);
    return 0;
  }

  static void decode_rows(float* out, int64_t stride, const uint8_t* part, int64_t num_rows,
                          int64_t head_dim) {
    const size_t row_bytes = static_cast<size_t>(head_dim) * sizeof(float);
    for (int64_t r = 0; r < num_rows; ++r)
      memcpy(out + r * stride, part + r * row_bytes, row_bytes);
  }
};

}  // namespace
}  // namespace comet::kv
