// Kernels in which a thread keeps its columns: it owns one span of 8 neighbours of a matrix [rows,
// n] and takes every num_lanes-th row of its CTA's share, so that what belongs to a column lies in
// registers. Callers: norms, layer scale, sums over rows. A CTA has up to 32 spans (a chunk of 256
// columns, blockIdx.y) and kThreads / spans rows at a time; the rows are shared out over
// blockIdx.x.
#pragma once

#include <algorithm>
#include <initializer_list>

#include "comet/ops/cuda/vectors.cuh"

namespace comet::ops_cuda {

constexpr int kChunkSpans = 32;
constexpr int kMaxColumnCtas = 528;  // of a kernel that sums: four on each of 132 SMs

struct ColumnCut {
  int32_t spans = 0;       // of a row
  int32_t num_chunks = 0;  // blockIdx.y
  int32_t num_ctas = 0;    // blockIdx.x
  int64_t rows_per_cta = 0;
};

/// Where a thread stands.
struct ColumnPlace {
  int column = 0;
  int count = 0;  // columns that exist
  int lane = 0;   // of the rows
  int num_lanes = 0;
  int64_t row = 0;  // the thread's first
  int64_t end = 0;  // of the CTA's rows
};

__device__ __forceinline__ ColumnPlace column_place(const ColumnCut& cut, int64_t rows, int64_t n) {
  const int first_span = static_cast<int>(blockIdx.y) * kChunkSpans;
  const int spans = min(kChunkSpans, cut.spans - first_span);
  ColumnPlace place;
  place.num_lanes = kThreads / spans;
  place.lane = static_cast<int>(threadIdx.x) / spans;
  place.column = (first_span + static_cast<int>(threadIdx.x) - place.lane * spans) * kSpan;
  place.count = place.lane < place.num_lanes ? min(kSpan, static_cast<int>(n) - place.column) : 0;
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * cut.rows_per_cta;
  place.row = begin + place.lane;
  place.end = place.count > 0 ? min(rows, begin + cut.rows_per_cta) : 0;
  return place;
}

__device__ __forceinline__ void widen_span(float (&v)[kSpan], const uint4& bits) {
  const uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    v[2 * j] = __uint_as_float(words[j] << 16);
    v[2 * j + 1] = __uint_as_float(words[j] & 0xFFFF0000U);
  }
}

/// Calls use(row, v), v[i] the thread's columns of x[i], for all of the thread's rows. kWide (spans
/// of BF16, whole and aligned): the spans of several rows are on their way before the first is
/// used, 128 bytes a thread; else one row after the other.
template <bool kWide, int kNum, typename Use>
__device__ __forceinline__ void for_rows(const FloatRows (&x)[kNum], const ColumnPlace& place,
                                         bool is_wide, const Use& use) {
  int64_t row = place.row;
  const int step = place.num_lanes;
  if constexpr (kWide) {
    constexpr int kBatch = 8 / kNum;
    const auto read = [&](int64_t at, int i) {
      const auto* data = static_cast<const uint16_t*>(x[i].data);
      return *reinterpret_cast<const uint4*>(data + at * x[i].stride + place.column);
    };
    const auto use_bits = [&](int64_t at, const uint4(&bits)[kNum]) {
      float v[kNum][kSpan];
#pragma unroll
      for (int i = 0; i < kNum; ++i) widen_span(v[i], bits[i]);
      use(at, v);
    };
    for (; row + (kBatch - 1) * step < place.end; row += kBatch * step) {
      uint4 bits[kBatch][kNum];
#pragma unroll
      for (int r = 0; r < kBatch; ++r) {
#pragma unroll
        for (int i = 0; i < kNum; ++i) bits[r][i] = read(row + r * step, i);
      }
#pragma unroll
      for (int r = 0; r < kBatch; ++r) use_bits(row + r * step, bits[r]);
    }
    for (; row < place.end; row += step) {
      uint4 bits[kNum];
#pragma unroll
      for (int i = 0; i < kNum; ++i) bits[i] = read(row, i);
      use_bits(row, bits);
    }
  } else {
    for (; row < place.end; row += step) {
      float v[kNum][kSpan];
#pragma unroll
      for (int i = 0; i < kNum; ++i) {
        load_span(v[i], x[i].data, x[i].type, row * x[i].stride + place.column, place.count,
                  is_wide);
      }
      use(row, v);
    }
  }
}

/// The thread's columns of a row of `out`.
template <bool kWide>
__device__ __forceinline__ void put_columns(const FloatRows& out, int64_t row,
                                            const float (&v)[kSpan], const ColumnPlace& place,
                                            bool is_wide) {
  const int64_t at = row * out.stride + place.column;
  if constexpr (kWide) {
    store_span(out.data, FloatType::kBF16, at, v, kSpan, true);
  } else {
    store_span(out.data, out.type, at, v, place.count, is_wide);
  }
}

/// partials[blockIdx.x][sum][column] = the sums of the CTA's threads that share columns, in the
/// order of their lanes. All threads of the CTA call it.
template <int kSums>
__device__ __forceinline__ void write_column_sums(const float (&sums)[kSums][kSpan],
                                                  const ColumnPlace& place, int64_t n,
                                                  float* partials) {
  __shared__ float shared[kSpan][kThreads + 4];  // 8 columns × 4 spans of a warp in 32 banks
  const int first_span = static_cast<int>(blockIdx.y) * kChunkSpans;
  const int spans = min(kChunkSpans, static_cast<int>((n + kSpan - 1) / kSpan) - first_span);
  const int span = static_cast<int>(threadIdx.x) / kSpan;
  const int j_own = static_cast<int>(threadIdx.x) % kSpan;
  const int64_t column = static_cast<int64_t>(first_span + span) * kSpan + j_own;
#pragma unroll
  for (int s = 0; s < kSums; ++s) {
    if (s > 0) __syncthreads();
#pragma unroll
    for (int j = 0; j < kSpan; ++j) shared[j][threadIdx.x] = sums[s][j];
    __syncthreads();
    if (span >= spans || column >= n) continue;
    float sum = 0.0F;
#pragma unroll 8
    for (int lane = 0; lane < place.num_lanes; ++lane) sum += shared[j_own][span + lane * spans];
    partials[(static_cast<int64_t>(blockIdx.x) * kSums + s) * n + column] = sum;
  }
}

/// FP32 values of the thread's columns; zeros where there are none.
__device__ __forceinline__ void load_columns(float (&v)[kSpan], const float* values,
                                             const ColumnPlace& place) {
  const float* p = values + place.column;
  if (place.count == kSpan && reinterpret_cast<uintptr_t>(p) % 16 == 0) {
    const float4 a = __ldg(reinterpret_cast<const float4*>(p));
    const float4 b = __ldg(reinterpret_cast<const float4*>(p) + 1);
    v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w;
    v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
    return;
  }
#pragma unroll
  for (int j = 0; j < kSpan; ++j) v[j] = j < place.count ? __ldg(p + j) : 0.0F;
}

// Host side.

/// max_ctas bounds blockIdx.x over all chunks; a thread takes 8 rows or more where there are
/// enough.
inline ColumnCut column_cut(int64_t rows, int64_t n, int max_ctas) {
  ColumnCut cut;
  cut.spans = static_cast<int32_t>((n + kSpan - 1) / kSpan);
  cut.num_chunks = (cut.spans + kChunkSpans - 1) / kChunkSpans;
  const int64_t lanes = kThreads / std::min<int64_t>(cut.spans, kChunkSpans);
  const int64_t wanted = std::max<int64_t>(1, (rows + 8 * lanes - 1) / (8 * lanes));
  const int64_t most = std::max(1, max_ctas / cut.num_chunks);
  const int64_t num = std::min(wanted, most);
  cut.rows_per_cta = (rows + num - 1) / num;
  cut.num_ctas = static_cast<int32_t>((rows + cut.rows_per_cta - 1) / cut.rows_per_cta);
  return cut;
}

/// Whether for_rows<true> takes these matrices.
inline bool is_wide_bf16(std::initializer_list<FloatRows> matrices, int64_t n) {
  return n % kSpan == 0 && std::all_of(matrices.begin(), matrices.end(), [](const FloatRows& x) {
           return x.type == FloatType::kBF16 && has_wide_rows(x);
         });
}

inline dim3 column_grid(const ColumnCut& cut) {
  return {static_cast<unsigned>(cut.num_ctas), static_cast<unsigned>(cut.num_chunks)};
}

/// CTAs of a kernel that sums nothing: as many as give every thread a few rows.
constexpr int kManyCtas = 1 << 20;

}  // namespace comet::ops_cuda
