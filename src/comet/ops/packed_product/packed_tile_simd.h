// The body of PackedIsa::multiply, included by one file per instruction set. Vectors run along the
// columns of the panel; R × V sums stay in registers over all of k, which has one order whatever R
// is, so a row's bits depend on neither its company nor the number of threads.
#pragma once

#include "comet/device/cpu/simd.h"
#include "comet/ops/gelu/gelu_simd.h"
#include "comet/ops/packed_product/packed_tile.h"

namespace comet {
namespace {

// With 2 sums a row, 2 weights and a factor: 31 of AVX-512's 32 registers, 15 of the others' 16.
constexpr int kPackedRows = simd::kLanes == 16 ? 14 : 6;
constexpr int64_t kPackedWidth = 2 * simd::kLanes;

/// Sums of a row's columns with what follows them; `old` is where they go.
template <PackedEnd End>
inline simd::F32 ended(simd::F32 sum, simd::F32 bias, simd::F32 old) {
  sum = simd::add(sum, bias);
  if constexpr (End == PackedEnd::kGelu) return gelu_of(sum);
  if constexpr (End == PackedEnd::kAdd) return simd::add(old, sum);
  return sum;
}

/// sums [num_rows][V · kLanes], with what follows them, to their places. Not inlined: one copy
/// serves kernels of all numbers of rows.
template <int V, PackedEnd End>
[[gnu::noinline]] void end_packed_rows(const PackedTile& tile, const float* sums) {
  using simd::kLanes;
  const int64_t last = tile.num_columns - (V - 1) * kLanes;  // columns of the last vector
  simd::F32 bias[V];
  for (int v = 0; v < V; ++v) {
    const int64_t num = v < V - 1 ? kLanes : last;
    bias[v] =
        tile.bias == nullptr ? simd::splat(0.0F) : simd::load_partial(tile.bias + v * kLanes, num);
  }
  float* out = tile.out;
  for (int64_t row = 0; row < tile.num_rows; ++row) {
    for (int v = 0; v < V; ++v) {
      const simd::F32 sum = simd::load(sums + v * kLanes);
      float* to = out + v * kLanes;
      if (v < V - 1 || last == kLanes) {
        const simd::F32 old = End == PackedEnd::kAdd ? simd::load(to) : sum;
        simd::store(to, ended<End>(sum, bias[v], old));
      } else {
        const simd::F32 old = End == PackedEnd::kAdd ? simd::load_partial(to, last) : sum;
        simd::store_partial(to, ended<End>(sum, bias[v], old), last);
      }
    }
    sums += V * kLanes;
    out += tile.out_stride;
  }
}

template <int V>
inline void end_packed(const PackedTile& tile, const float* sums) {
  if (tile.end == PackedEnd::kGelu) return end_packed_rows<V, PackedEnd::kGelu>(tile, sums);
  if (tile.end == PackedEnd::kAdd) return end_packed_rows<V, PackedEnd::kAdd>(tile, sums);
  end_packed_rows<V, PackedEnd::kPlain>(tile, sums);
}

template <int R, int V>
void multiply_packed_rows(const PackedTile& tile) {
  using simd::kLanes;
  // Unrolled early, so that no sum has a place in memory: the compiler would write them there.
  simd::F32 acc[R][V];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) acc[r][v] = simd::splat(0.0F);
  }
  const float* a = tile.a;
  const float* b = tile.b;
  const char* ahead = static_cast<const char*>(tile.ahead);
  for (int64_t begin = 0; begin < tile.k; begin += kPackedDepth) {
    const int64_t num = tile.k - begin < kPackedDepth ? tile.k - begin : kPackedDepth;
#pragma GCC unroll 2
    for (int64_t i = 0; i < num; ++i) {
      simd::F32 weights[V];
      __builtin_prefetch(ahead, 0, 2);
      ahead += tile.ahead_step;
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) weights[v] = simd::load(b + v * kLanes);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const simd::F32 factor = simd::splat(a[r * kPackedStride + i]);
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) acc[r][v] = simd::fma(factor, weights[v], acc[r][v]);
      }
      b += V * kLanes;
    }
    a += kPackedRows * kPackedStride;
  }
  alignas(64) float sums[R][V * kLanes];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) simd::store(sums[r] + v * kLanes, acc[r][v]);
  }
  end_packed<V>(tile, sums[0]);
}

/// multiply_packed_rows of tile.num_rows ≤ R rows.
template <int V, int R = kPackedRows>
void multiply_packed_group(const PackedTile& tile) {
  if constexpr (R == 1) {
    multiply_packed_rows<1, V>(tile);
  } else if (tile.num_rows == R) {
    multiply_packed_rows<R, V>(tile);
  } else {
    multiply_packed_group<V, R - 1>(tile);
  }
}

inline void multiply_packed(const PackedTile& tile) {
  if (tile.num_columns > simd::kLanes) {
    multiply_packed_group<2>(tile);
  } else {
    multiply_packed_group<1>(tile);
  }
}

inline int64_t spin_packed(int64_t num_rounds, float& sink) {
  constexpr int kSums = 12;  // 2 a cycle, 4 to 5 cycles until a sum is there
  simd::F32 acc[kSums];
#pragma GCC unroll 16
  for (int i = 0; i < kSums; ++i) acc[i] = simd::splat(static_cast<float>(i));
  const simd::F32 factor = simd::splat(0.5F);
  const simd::F32 term = simd::splat(1.0F);
  for (int64_t round = 0; round < num_rounds; ++round) {
#pragma GCC unroll 16
    for (simd::F32& sum : acc) sum = simd::fma(sum, factor, term);
  }
#pragma GCC unroll 16
  for (int i = 1; i < kSums; ++i) acc[0] = simd::add(acc[0], acc[i]);
  sink += simd::reduce_add(acc[0]);
  return num_rounds * kSums * simd::kLanes;
}

}  // namespace
}  // namespace comet
