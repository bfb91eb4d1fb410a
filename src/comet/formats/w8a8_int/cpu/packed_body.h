// Body of the packed w8a8-int CPU kernels, included by one file per instruction set (hence the
// unnamed namespace). Vectors run along the columns of a panel, four channels of each column side
// by side; R × 2 sums stay in registers over all of k. Sums are exact int32 in any order, and what
// follows them are the FP32 operations of docs/formats.md §1 in their order.
//
// V is the instruction set: Reg, kRows, kFlip, zero, store_sums, total, load_weights (what
// mul_add wants of a vector of weights), splat_codes, mul_add, to_floats.
#pragma once

#include <stdint.h>
#include <string.h>

#include "comet/device/cpu/simd.h"
#include "comet/formats/cpu/quantize_row_body.h"
#include "comet/formats/w8a8_int/cpu/packed_args.h"
#include "comet/ops/gelu/gelu_simd.h"

namespace comet::formats::w8a8_int::cpu {
namespace {

constexpr int kVectors = 2;  // of a panel
constexpr int64_t kPanelWidth = kVectors * simd::kLanes;

/// A row's sums [width], with what follows them, to its place. Not inlined: one copy
/// serves kernels of all numbers of rows.
template <class V, int W>
[[gnu::noinline]] void end_codes_row(const CodesTile& tile, int64_t row, const int32_t* sums) {
  float* out = tile.out + row * tile.out_stride;
  const simd::F32 x_scale = simd::splat(tile.x_scale[row]);
  for (int w = 0; w < W; ++w) {
    const int64_t begin = w * simd::kLanes;
    const int64_t rest = tile.num_columns - begin;
    if (rest <= 0) return;
    const int64_t num = rest < simd::kLanes ? rest : simd::kLanes;
    const bool whole = num == simd::kLanes;
    const auto load = [&](const float* p) {
      return whole ? simd::load(p) : simd::load_partial(p, num);
    };
    simd::F32 y =
        simd::mul(load(tile.scale + begin),
                  simd::mul(x_scale, V::to_floats(V::total(sums + begin, tile.offset + begin))));
    if (tile.bias != nullptr) y = simd::add(y, load(tile.bias + begin));
    if (tile.end == PackedEnd::kGelu) y = gelu_of(y);
    if (tile.end == PackedEnd::kAdd) y = simd::add(load(out + begin), y);
    if (whole) {
      simd::store(out + begin, y);
    } else {
      simd::store_partial(out + begin, y, num);
    }
  }
}

template <class V, int R, int W>
void multiply_codes_rows(const CodesTile& tile) {
  constexpr int64_t kVectorBytes = 4 * simd::kLanes;
  // Unrolled early, so that no sum has a place in memory: the compiler would write them there.
  typename V::Reg acc[R][W];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
    for (int w = 0; w < W; ++w) acc[r][w] = V::zero();
  }
  const uint8_t* a = tile.a;
  const int8_t* b = tile.b;
  // k is positive, and the loop says so: else the compiler shares what rows begin with behind a
  // loop that was not entered, and keeps every sum twice for that.
  constexpr int64_t kQuads = kCodesDepth / 4;
  for (int64_t begin = 0; begin < tile.num_quads; begin += kQuads) {
    const int64_t num = tile.num_quads - begin < kQuads ? tile.num_quads - begin : kQuads;
#pragma GCC unroll 2
    for (int64_t i = 0; i < num; ++i) {
      typename V::Weights weights[W];
#pragma GCC unroll 2
      for (int w = 0; w < W; ++w) weights[w] = V::load_weights(b + w * kVectorBytes);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const typename V::Reg x = V::splat_codes(a + r * kCodesStride + 4 * i);
#pragma GCC unroll 2
        for (int w = 0; w < W; ++w) acc[r][w] = V::mul_add(acc[r][w], weights[w], x);
      }
      b += W * kVectorBytes;
    }
    a += V::kRows * kCodesStride;
  }
  // Integers as they are: made floats here, they would be in the loop already, which keeps every
  // sum twice for that.
  alignas(64) int32_t sums[R][kPanelWidth];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
    for (int w = 0; w < W; ++w) V::store_sums(sums[r] + w * simd::kLanes, acc[r][w]);
  }
  for (int64_t r = 0; r < R; ++r) end_codes_row<V, W>(tile, r, sums[r]);
}

/// multiply_codes_rows of tile.num_rows ≤ R rows.
template <class V, int W, int R = V::kRows>
void multiply_codes_group(const CodesTile& tile) {
  if constexpr (R == 1) {
    multiply_codes_rows<V, 1, W>(tile);
  } else if (tile.num_rows == R) {
    multiply_codes_rows<V, R, W>(tile);
  } else {
    multiply_codes_group<V, W, R - 1>(tile);
  }
}

template <class V>
void multiply_codes(const CodesTile& tile) {
  if (tile.num_columns > simd::kLanes) {
    multiply_codes_group<V, 2>(tile);
  } else {
    multiply_codes_group<V, 1>(tile);
  }
}

template <class V>
void place_codes(const int8_t* codes, int64_t k, uint8_t* row) {
  for (int64_t begin = 0; begin < k; begin += kCodesDepth) {
    const int64_t num = k - begin < kCodesDepth ? k - begin : kCodesDepth;
    for (int64_t i = 0; i < num; ++i) {
      row[i] = static_cast<uint8_t>(codes[begin + i]) ^ V::kFlip;
    }
    for (int64_t i = num; i % 4 != 0; ++i) row[i] = V::kFlip;
    row += V::kRows * kCodesStride;
  }
}

template <class V>
float quantize_codes(const float* x, int64_t k, int8_t* scratch, uint8_t* row) {
  if (k <= 0) return 0.0F;  // bounds the sizes that the compiler warns of
  const float scale = formats::cpu::quantize_span(x, k, 127.0F, 1.0F, scratch);
  place_codes<V>(scratch, k, row);
  return scale;
}

template <class V>
constexpr CodesIsa kCodesIsaOf{V::kRows,          kPanelWidth,       V::kFlip,
                               multiply_codes<V>, quantize_codes<V>, place_codes<V>};

}  // namespace
}  // namespace comet::formats::w8a8_int::cpu
