// Attention of a few query rows (decode): lanes run over head_dim. Compiled once per instruction
// set. Per tile: K rows to FP32, scores = q·K, online softmax (Milakov, Gimelshein 2018), V rows to
// FP32, out = out · correction + p·V.
#pragma once

#include "comet/device/cpu/simd.h"
#include "comet/kv/attend/attend_tile_simd.h"
#include "comet/kv/window/window_rows_simd.h"

namespace comet::kv {
namespace {

/// Query rows in FP32, padded with zeros to whole registers, and what the softmax carries.
struct RowState {
  float* tile;    // [kTileTokens][dims]
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

/// Scores [low, high) to probabilities (up to the common factor) in place, the others to 0; returns
/// what earlier sums are multiplied by.
inline float row_softmax(float* scores, int64_t low, int64_t high, float& maximum, float& sum) {
  using simd::kLanes;
  for (int64_t k = 0; k < low; ++k) scores[k] = -__builtin_inff();
  for (int64_t k = high; k < kTileTokens; ++k) scores[k] = -__builtin_inff();
  simd::F32 largest = simd::load(scores);
  for (int64_t k = kLanes; k < kTileTokens; k += kLanes) {
    largest = simd::max(largest, simd::load(scores + k));
  }
  const float tile_maximum = simd::reduce_max(largest);
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

/// Adds what the rows read from one source.
template <typename Source>
inline void add_rows(const AttendTask& task, const TaskShape& shape, const RowState& state,
                     const Source& source, const KeyRange& range) {
  const int64_t end = range.high(visible_keys(task, shape.rows - 1));
  const int64_t first = range.low(task.first_visible);
  for (int64_t start = first / kTileTokens * kTileTokens; start < end; start += kTileTokens) {
    const int64_t keys = smaller(kTileTokens, end - start);
    source.load_keys(state.tile, start, keys, shape.dims, first);
    clear_rows(state.tile, keys, 4, shape.dims);
    for (int64_t r = 0; r < shape.rows; ++r) {
      row_scores(state.scores + r * kTileTokens, state.q + r * shape.dims, state.tile, shape.dims,
                 round_up(keys, 4));
    }
    source.load_values(state.tile, start, keys, shape.dims, first);
    for (int64_t r = 0; r < shape.rows; ++r) {
      const int64_t visible = visible_keys(task, r);
      const int64_t low = larger(0, range.low(visible) - start);
      const int64_t high = smaller(keys, range.high(visible) - start);
      if (high <= low) continue;
      float* p = state.scores + r * kTileTokens;
      const float correction = row_softmax(p, low, high, state.maxima[r], state.sums[r]);
      row_values_all(state.out + r * shape.dims, p + low, state.tile + low * shape.dims, shape.dims,
                     high - low, correction);
    }
  }
}

template <typename Rows>
inline void attend_rows(const AttendTask& task, const TaskShape& shape) {
  const int64_t row_floats = shape.rows * shape.dims;
  RowState state;
  state.tile = task.scratch;
  state.q = state.tile + kTileTokens * shape.dims;
  state.out = state.q + row_floats;
  state.scores = state.out + row_floats;
  state.maxima = state.scores + shape.rows * kTileTokens;
  state.sums = state.maxima + shape.rows;
  init_rows(task, shape, state);
  clear_padding(state.tile, task.head_dim, shape.dims);

  const AttendWindow& window = task.window;
  add_rows(task, shape, state, PageRows<Rows>(task), page_keys(window));
  if (window.num_first > 0) {
    add_rows(task, shape, state, WindowRows(task), first_keys(window));
  }
  if (window.num_recent > 0) {
    add_rows(task, shape, state, WindowRows(task), recent_keys(window));
  }
  for (int64_t r = 0; r < shape.rows; ++r) {
    copy_scaled(output_row(task, r), state.out + r * shape.dims, task.head_dim, task.head_dim,
                1.0F / state.sums[r]);
  }
}

}  // namespace
}  // namespace comet::kv
