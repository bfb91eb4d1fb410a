// What both ways through attention share: the shape of a task, its rows, and tiles of K or V in
// FP32. Compiled once per instruction set.
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
inline int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

inline TaskShape task_shape(const AttendTask& task) {
  return {task.num_tokens * task.group, round_up(task.head_dim, 16),
          static_cast<float>(1.0 / __builtin_sqrt(static_cast<double>(task.head_dim)))};
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

/// Rows 0…keys of a part as FP32, then zero rows up to a multiple of `step`: a slot that was never
/// written may hold anything, and 0 · NaN is NaN.
template <typename Rows>
inline void load_tile(float* tile, const uint8_t* part, int64_t keys, int64_t step,
                      int64_t head_dim, int64_t dims) {
  Rows::decode_rows(tile, dims, part, keys, head_dim);
  for (int64_t i = keys * dims; i < round_up(keys, step) * dims; ++i) tile[i] = 0.0F;
}

}  // namespace
}  // namespace comet::kv
