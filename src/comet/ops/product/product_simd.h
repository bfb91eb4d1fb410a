// One tile of product: six rows by two vectors, kept in registers over the whole depth; compiled
// once per instruction set (training_rows_<isa>.cpp).
#pragma once

#include "comet/device/cpu/simd.h"
#include "comet/ops/training_rows.h"

namespace comet {
namespace {

constexpr int64_t kProductColumns = 2 * simd::kLanes;

inline void write_tile_row(const ProductTile& tile, int64_t row, const simd::F32 (&acc)[2]) {
  float* out = tile.out + row * tile.out_stride;
  for (int64_t half = 0; half < 2; ++half) {
    const int64_t begin = half * simd::kLanes;
    const int64_t rest = tile.num_columns - begin;
    if (rest <= 0) return;
    const int64_t num = rest < simd::kLanes ? rest : simd::kLanes;
    simd::F32 sum = acc[half];
    if (tile.bias != nullptr) sum = simd::add(sum, simd::load_partial(tile.bias + begin, num));
    if (tile.add_to_out) sum = simd::add(simd::load_partial(out + begin, num), sum);
    simd::store_partial(out + begin, sum, num);
  }
}

inline void product_tile(const ProductTile& tile) {
  using simd::kLanes;
  simd::F32 acc[kProductRows][2];
  for (auto& row : acc) row[0] = row[1] = simd::splat(0.0F);
  const float* a = tile.a;
  const float* b = tile.b;
  for (int64_t i = 0; i < tile.k; ++i) {
    const simd::F32 left = simd::load(b);
    const simd::F32 right = simd::load(b + kLanes);
    for (int row = 0; row < kProductRows; ++row) {
      const simd::F32 factor = simd::splat(a[row]);
      acc[row][0] = simd::fma(factor, left, acc[row][0]);
      acc[row][1] = simd::fma(factor, right, acc[row][1]);
    }
    a += kProductRows;
    b += kProductColumns;
  }
  for (int64_t row = 0; row < tile.num_rows; ++row) write_tile_row(tile, row, acc[row]);
}

}  // namespace
}  // namespace comet
