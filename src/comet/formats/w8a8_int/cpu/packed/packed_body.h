// Body of the packed w8a8-int CPU kernels, included by one file per instruction set (hence the
// unnamed namespace). Vectors run along the columns of a panel, four channels of each column side
// by side; R × 2 sums stay in registers over all of k. Sums are exact int32 in any order, and what
// follows them are the FP32 operations of docs/formats.md §1 in their order.
//
// V is the instruction set: Reg, kRows, kFlip, zero, store_sums, total, load_weights (what
// mul_add wants of a vector of weights), splat_codes, mul_add, to_floats, store_codes (rounded to
// nearest even, ^ kFlip).
#pragma once

#include <stdint.h>
#include <string.h>

#include "comet/device/cpu/simd.h"
#include "comet/formats/cpu/quantize_row_body.h"
#include "comet/formats/w8a8_int/cpu/packed/packed_args.h"
#include "comet/ops/gelu/gelu_simd.h"

namespace comet::formats::w8a8_int::cpu {
namespace {

constexpr int kVectors = 2;  // of a panel
constexpr int64_t kPanelWidth = kVectors * simd::kLanes;

/// What is the same in all rows of W vectors of columns.
template <int W>
struct ColumnEnds {
  simd::F32 scale[W];
  simd::F32 bias[W];
};

/// s_w · (s_x · sum), then what follows it; `old` is where it goes.
template <PackedEnd End>
inline simd::F32 ended(simd::F32 y, simd::F32 old) {
  if constexpr (End == PackedEnd::kGelu) return gelu_of(y);
  if constexpr (End == PackedEnd::kAdd) return simd::add(old, y);
  return y;
}

/// sums [num_rows][width], with what follows them, to their places. Not inlined: one copy serves
/// kernels of all numbers of rows.
template <class V, int W, PackedEnd End>
[[gnu::noinline]] void end_codes_rows(const CodesTile& tile, const int32_t* sums) {
  using simd::kLanes;
  const int64_t last = tile.num_columns - (W - 1) * kLanes;  // columns of the last vector
  ColumnEnds<W> ends;
  for (int w = 0; w < W; ++w) {
    const int64_t num = w < W - 1 ? kLanes : last;
    ends.scale[w] = simd::load_partial(tile.scale + w * kLanes, num);
    ends.bias[w] =
        tile.bias == nullptr ? simd::splat(0.0F) : simd::load_partial(tile.bias + w * kLanes, num);
  }
  float* out = tile.out;
  for (int64_t row = 0; row < tile.num_rows; ++row) {
    const simd::F32 x_scale = simd::splat(tile.x_scale[row]);
    for (int w = 0; w < W; ++w) {
      const simd::F32 total = V::to_floats(V::total(sums + w * kLanes, tile.offset + w * kLanes));
      simd::F32 y = simd::mul(ends.scale[w], simd::mul(x_scale, total));
      if (tile.bias != nullptr) y = simd::add(y, ends.bias[w]);
      float* to = out + w * kLanes;
      if (w < W - 1 || last == kLanes) {
        simd::store(to, ended<End>(y, End == PackedEnd::kAdd ? simd::load(to) : y));
      } else {
        const simd::F32 old = End == PackedEnd::kAdd ? simd::load_partial(to, last) : y;
        simd::store_partial(to, ended<End>(y, old), last);
      }
    }
    sums += kPanelWidth;
    out += tile.out_stride;
  }
}

template <class V, int W>
inline void end_codes(const CodesTile& tile, const int32_t* sums) {
  if (tile.end == PackedEnd::kGelu) return end_codes_rows<V, W, PackedEnd::kGelu>(tile, sums);
  if (tile.end == PackedEnd::kAdd) return end_codes_rows<V, W, PackedEnd::kAdd>(tile, sums);
  end_codes_rows<V, W, PackedEnd::kPlain>(tile, sums);
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
  const char* ahead = static_cast<const char*>(tile.ahead);
  // k is positive, and the loop says so: else the compiler shares what rows begin with behind a
  // loop that was not entered, and keeps every sum twice for that.
  constexpr int64_t kQuads = kCodesDepth / 4;
  for (int64_t begin = 0; begin < tile.num_quads; begin += kQuads) {
    const int64_t num = tile.num_quads - begin < kQuads ? tile.num_quads - begin : kQuads;
#pragma GCC unroll 2
    for (int64_t i = 0; i < num; ++i) {
      typename V::Weights weights[W];
      __builtin_prefetch(ahead, 0, 2);
      ahead += tile.ahead_step;
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
  end_codes<V, W>(tile, sums[0]);
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

/// A8 of docs/formats.md §1. Its clamp is left out: |x · (127 / a)| is at most 127 · (1 + 2⁻²³),
/// which is 127 when it is rounded.
template <class V>
float quantize_codes(const float* x, int64_t k, uint8_t* row) {
  constexpr int32_t kInfinityBits = 0x7F800000;
  constexpr float kSmallest = 0x1p-100F;
  const int32_t bits = formats::cpu::absmax_bits(x, k);
  float a;
  memcpy(&a, &bits, sizeof(a));
  const bool is_number = bits < kInfinityBits;
  // Codes of 0 of a row that has no scale: its values may be no numbers.
  const bool is_zero = !is_number || a < kSmallest;
  const simd::F32 r = simd::splat(is_zero ? 0.0F : 127.0F / a);
  for (int64_t begin = 0; begin < k; begin += kCodesDepth) {
    const int64_t num = k - begin < kCodesDepth ? k - begin : kCodesDepth;
    int64_t i = 0;
    for (; i + simd::kLanes <= num; i += simd::kLanes) {
      const simd::F32 value = is_zero ? r : simd::load(x + begin + i);
      V::store_codes(row + i, simd::mul(value, r));
    }
    if (i < num) {
      const simd::F32 value = is_zero ? r : simd::load_partial(x + begin + i, num - i);
      V::store_codes(row + i, simd::mul(value, r));
    }
    row += V::kRows * kCodesStride;
  }
  if (!is_number) return __builtin_nanf("");
  return is_zero ? 0.0F : a / 127.0F;
}

template <class V>
constexpr CodesIsa kCodesIsaOf{V::kRows,          kPanelWidth,       V::kFlip,
                               multiply_codes<V>, quantize_codes<V>, place_codes<V>};

}  // namespace
}  // namespace comet::formats::w8a8_int::cpu
