// Tiles of K or V from the BF16 window: rows of earlier steps from the window's memory, rows of
// this step from its FP32 k and v, rounded as they are read. Compiled once per instruction set.
#pragma once

#include "comet/kv/attend/attend_tile_simd.h"
#include "comet/kv/kv16/kv16_simd.h"
#include "comet/kv/window/window_row.h"

namespace comet::kv {
namespace {

class WindowRows {
 public:
  explicit WindowRows(const AttendTask& task) : window_(task.window), head_dim_(task.head_dim) {}

  void load_keys(float* tile, int64_t start, int64_t count, int64_t dims, int64_t first) const {
    const int64_t skip = skip_rows(tile, start, dims, first);
    load(tile + skip * dims, start + skip, count - skip, dims,
         {window_.keys, window_.step_keys, window_.step_key_stride});
  }
  void load_values(float* tile, int64_t start, int64_t count, int64_t dims, int64_t first) const {
    const int64_t skip = skip_rows(tile, start, dims, first);
    load(tile + skip * dims, start + skip, count - skip, dims,
         {window_.values, window_.step_values, window_.step_value_stride});
  }

 private:
  struct Rows {
    const uint16_t* kept;
    const float* step;
    int64_t step_stride;
  };

  /// The window has no keys before `first`: zeros in their place.
  static int64_t skip_rows(float* tile, int64_t start, int64_t dims, int64_t first) {
    const int64_t skip = larger(0, first - start);
    for (int64_t i = 0; i < skip * dims; ++i) tile[i] = 0.0F;
    return skip;
  }

  void load(float* tile, int64_t start, int64_t count, int64_t dims, const Rows& rows) const {
    for (int64_t i = 0; i < count; ++i) {
      const int64_t position = start + i;
      uint8_t bits[kMaxRowValues * sizeof(uint16_t)];
      const uint8_t* row = bits;
      if (position >= window_.step_begin) {
        const float* x = rows.step + (position - window_.step_begin) * rows.step_stride;
        Kv16Rows::encode_row(bits, 0, x, head_dim_);
      } else {
        const int64_t row_idx = window_row(window_.num_first, window_.num_recent, position);
        row = reinterpret_cast<const uint8_t*>(rows.kept + row_idx * head_dim_);
      }
      Kv16Rows::decode_rows(tile + i * dims, dims, row, 1, head_dim_);
    }
  }

  AttendWindow window_;
  int64_t head_dim_;
};

}  // namespace
}  // namespace comet::kv
