// Attention of a few query rows (decode): lanes run over head_dim. Compiled once per instruction
// set. Per page: K rows to FP32, scores = q·K, online softmax (Milakov, Gimelshein 2018), V rows to
// FP32, out = out · correction + p·V.
#pragma once

#include "comet/device/cpu/simd.h"
#include "comet/kv/attend/attend_tile_simd.h"

namespace comet::kv {
namespace {

/// Query rows in FP32, padded with zeros to whole registers, and what the softmax carries.
struct RowState {
  float* q;       // [rows][dims], scaled by 1/√head_dim
  float* out;     // [rows][dims]
  float* scores;  // [rows][kTileTokens]
  float* maxima;  // [rows]
  float* sums;    // [rows]
};

inline void init_rows(const AttendTask& task, const TaskShape& shape, const RowState& state) {
  for (int64_t r = 0; r < shape.rows; ++r) {
    copy_scaled(state.q + r * shape.dims, query_row(task, r), task.head_dim, shape.dims,
                shape.scale);
    for (int64_t i = 0; i < shape.dims; i += simd::kLanes) {
      simd::store(state.out + r * shape.dims + i, simd::splat(0.0F));
    }
    state.maxima[r] = -__builtin_inff();
    state.sums[r] = 0.0F;
  }
}

/// scores[0…keys) of one query row, four keys at a time; `keys` is a multiple of 4.
inline void row_scores(float* scores, const float* q, const float* tile, int64_t dims,
                       int64_t keys) {
  using simd::kLanes;
  for (int64_t k = 0; k < keys; k += 4) {
    const float* rows[4] = {tile + k * dims, tile + (k + 1) * dims, tile + (k + 2) * dims,
                            tile + (k + 3) * dims};
    simd::F32 sums[4] = {simd::splat(0.0F), simd::splat(0.0F), simd::splat(0.0F),
                         simd::splat(0.0F)};
    for (int64_t i = 0; i < dims; i += kLanes) {
      const simd::F32 x = simd::load(q + i);
      for (int j = 0; j < 4; ++j) sums[j] = simd::fma(x, simd::load(rows[j] + i), sums[j]);
    }
    for (int j = 0; j < 4; ++j) scores[k + j] = simd::reduce_add(sums[j]);
  }
}

/// Scores to probabilities (up to the common factor) in place; returns what earlier sums are
/// multiplied by.
inline float row_softmax(float* scores, int64_t visible, float& maximum, float& sum) {
  using simd::kLanes;
  for (int64_t k = visible; k < kTileTokens; ++k) scores[k] = -__builtin_inff();
  simd::F32 high = simd::load(scores);
  for (int64_t k = kLanes; k < kTileTokens; k += kLanes) {
    high = simd::max(high, simd::load(scores + k));
  }
  const float tile_maximum = simd::reduce_max(high);
  const float larger = tile_maximum > maximum ? tile_maximum : maximum;
  const simd::F32 shift = simd::splat(larger);
  simd::F32 total = simd::splat(0.0F);
  for (int64_t k = 0; k < kTileTokens; k += kLanes) {
    const simd::F32 p = simd::exp(simd::sub(simd::load(scores + k), shift));
    simd::store(scores + k, p);
    total = simd::add(total, p);
  }
  float correction[kLanes];
  simd::store(correction, simd::exp(simd::splat(maximum - larger)));
  sum = sum * correction[0] + simd::reduce_add(total);
  maximum = larger;
  return correction[0];
}

/// out[0…kVectors registers) = out · correction + Σ p[k] · tile[k].
template <int kVectors>
inline void row_values(float* out, const float* p, const float* tile, int64_t dims, int64_t keys,
                       simd::F32 correction) {
  using simd::kLanes;
  simd::F32 sums[kVectors];
  for (int j = 0; j < kVectors; ++j) {
    sums[j] = simd::mul(simd::load(out + j * kLanes), correction);
  }
  for (int64_t k = 0; k < keys; ++k) {
    const simd::F32 weight = simd::splat(p[k]);
    for (int j = 0; j < kVectors; ++j) {
      sums[j] = simd::fma(weight, simd::load(tile + k * dims + j * kLanes), sums[j]);
    }
  }
  for (int j = 0; j < kVectors; ++j) simd::store(out + j * kLanes, sums[j]);
}

inline void row_values_all(float* out, const float* p, const float* tile, int64_t dims,
                           int64_t keys, float correction) {
  using simd::kLanes;
  const simd::F32 factor = simd::splat(correction);
  int64_t i = 0;
  for (; i + 8 * kLanes <= dims; i += 8 * kLanes) {
    row_values<8>(out + i, p, tile + i, dims, keys, factor);
  }
  for (; i + 4 * kLanes <= dims; i += 4 * kLanes) {
    row_values<4>(out + i, p, tile + i, dims, keys, factor);
  }
  for (; i < dims; i += kLanes) row_values<1>(out + i, p, tile + i, dims, keys, factor);
}

template <typename Rows>
inline void attend_rows(const AttendTask& task, const TaskShape& shape) {
  const int64_t row_floats = shape.rows * shape.dims;
  float* tile = task.scratch;
  RowState state;
  state.q = tile + kTileTokens * shape.dims;
  state.out = state.q + row_floats;
  state.scores = state.out + row_floats;
  state.maxima = state.scores + shape.rows * kTileTokens;
  state.sums = state.maxima + shape.rows;
  init_rows(task, shape, state);
  clear_padding(tile, task.head_dim, shape.dims);

  const int64_t all_visible = visible_keys(task, shape.rows - 1);
  for (int64_t start = 0; start < all_visible; start += kTileTokens) {
    const int64_t keys = smaller(kTileTokens, all_visible - start);
    const uint8_t* page = task.keys + task.block_table[start / kTileTokens] * task.page_bytes;
    load_tile<Rows>(tile, page, keys, 4, task.head_dim, shape.dims);
    for (int64_t r = 0; r < shape.rows; ++r) {
      row_scores(state.scores + r * kTileTokens, state.q + r * shape.dims, tile, shape.dims,
                 round_up(keys, 4));
    }
    load_tile<Rows>(tile, page + task.value_offset, keys, 1, task.head_dim, shape.dims);
    for (int64_t r = 0; r < shape.rows; ++r) {
      const int64_t visible = smaller(keys, visible_keys(task, r) - start);
      if (visible <= 0) continue;
      float* p = state.scores + r * kTileTokens;
      const float correction = row_softmax(p, visible, state.maxima[r], state.sums[r]);
      row_values_all(state.out + r * shape.dims, p, tile, shape.dims, visible, correction);
    }
  }
  for (int64_t r = 0; r < shape.rows; ++r) {
    copy_scaled(output_row(task, r), state.out + r * shape.dims, task.head_dim, task.head_dim,
                1.0F / state.sums[r]);
  }
}

}  // namespace
}  // namespace comet::kv
