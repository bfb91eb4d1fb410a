// What both ways through attention share: the shape of a task, its rows, which keys of which source
// a row reads, and tiles of K or V in FP32. Compiled once per instruction set.
#pragma once

#include "comet/device/cpu/simd.h"
#include "comet/kv/kv_kernels.h"

namespace comet::kv {
namespace {

struct TaskShape {
  int64_t rows;  // query rows: tokens × group, heads of a token side by side
  int64_t dims;  // head_dim rounded up to 16: whole registers on every instruction set
  float scale;   // 1/√head_dim
};

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
inline int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

inline TaskShape task_shape(const AttendTask& task) {
  return {task.num_tokens * task.group, round_up(task.head_dim, 16),
          static_cast<float>(1.0 / __builtin_sqrt(static_cast<double>(task.head_dim)))};
}

/// The keys that rows read from one source: a row that sees keys 0…visible − 1 reads those from
/// low(visible) to high(visible) − 1. The age of a key is 0 where it is the row's own token.
struct KeyRange {
  static constexpr int64_t kUnbounded = int64_t{1} << 40;
  int64_t first = 0;
  int64_t end = kUnbounded;
  int64_t min_age = 0;
  int64_t num_ages = kUnbounded;  // keys younger than this

  [[nodiscard]] int64_t low(int64_t visible) const { return larger(first, visible - num_ages); }
  [[nodiscard]] int64_t high(int64_t visible) const { return smaller(end, visible - min_age); }
};

// The three sources of a row: pages hold the middle, the window the first and the recent keys.
inline KeyRange page_keys(const AttendWindow& window) {
  return {.first = window.num_first, .min_age = window.num_recent};
}
inline KeyRange first_keys(const AttendWindow& window) { return {.end = window.num_first}; }
inline KeyRange recent_keys(const AttendWindow& window) {
  return {.first = window.num_first, .num_ages = window.num_recent};
}

/// Keys that query row r sees.
inline int64_t visible_keys(const AttendTask& task, int64_t r) {
  return task.first_visible + r / task.group;
}
inline const float* query_row(const AttendTask& task, int64_t r) {
  return task.q + r / task.group * task.q_token_stride + r % task.group * task.q_head_stride;
}
inline float* output_row(const AttendTask& task, int64_t r) {
  return task.out + r / task.group * task.out_token_stride + r % task.group * task.head_dim;
}

/// out[0…n) = x · factor, zeros up to padded_n; padded_n − n < kLanes unless equal, or n is short
/// of whole registers by less than 16.
inline void copy_scaled(float* out, const float* x, int64_t n, int64_t padded_n, float factor) {
  using simd::kLanes;
  const simd::F32 f = simd::splat(factor);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) simd::store(out + i, simd::mul(simd::load(x + i), f));
  for (; i < n; ++i) out[i] = x[i] * factor;
  for (; i < padded_n; ++i) out[i] = 0.0F;
}

/// Zeros in the columns that load_tile never writes.
inline void clear_padding(float* tile, int64_t head_dim, int64_t dims) {
  for (int64_t k = 0; k < kTileTokens; ++k) {
    for (int64_t i = head_dim; i < dims; ++i) tile[k * dims + i] = 0.0F;
  }
}

/// Zero rows behind the `keys` loaded ones, up to a multiple of `step`: a slot that was never
/// written may hold anything, and 0 · NaN is NaN.
inline void clear_rows(float* tile, int64_t keys, int64_t step, int64_t dims) {
  for (int64_t i = keys * dims; i < round_up(keys, step) * dims; ++i) tile[i] = 0.0F;
}

/// Tiles of K or V from the pages of a task; a tile is a page. As with every source, tile row i is
/// key start + i, and `start` is a multiple of kTileTokens: which keys are added up together
/// depends on their positions alone. Keys before `first` are read by no row.
template <typename Rows>
class PageRows {
 public:
  explicit PageRows(const AttendTask& task) : task_(task) {}

  void load_keys(float* tile, int64_t start, int64_t count, int64_t dims, int64_t) const {
    Rows::decode_rows(tile, dims, page(start), count, task_.head_dim);
  }
  void load_values(float* tile, int64_t start, int64_t count, int64_t dims, int64_t) const {
    Rows::decode_rows(tile, dims, page(start) + task_.value_offset, count, task_.head_dim);
  }

 private:
  [[nodiscard]] const uint8_t* page(int64_t start) const {
    return task_.keys + task_.block_table[start / kTileTokens] * task_.page_bytes;
  }
  const AttendTask& task_;
};

}  // namespace
}  // namespace comet::kv
