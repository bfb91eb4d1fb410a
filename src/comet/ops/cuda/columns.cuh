// Kernels in which a thread keeps its columns: it owns one span of 8 neighbours of a matrix [rows,
// n] and takes every num_lanes-th row of its CTA's share, so that what belongs to a column lies in
// registers. Callers: norms, layer scale, sums over rows. A CTA has up to 32 spans (a chunk of 256
// columns, blockIdx.y) and kThreads / spans rows at a time; the rows are shared out over
// blockIdx.x.
#pragma once

#include <algorithm>

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

/// partials[blockIdx.x][sum][column] = the sums of the CTA's threads that share columns, in the
/// order of their lanes. All threads of the CTA call it.
template <int kSums>
__device__ __forceinline__ void write_column_sums(const float (&sums)[kSums][kSpan],
                                                  const ColumnPlace& place, int64_t n,
                                                  float* partials) {
  __shared__ float shared[kSpan][kThreads];
#pragma unroll
  for (int s = 0; s < kSums; ++s) {
    if (s > 0) __syncthreads();
#pragma unroll
    for (int j = 0; j < kSpan; ++j) shared[j][threadIdx.x] = sums[s][j];
    __syncthreads();
    if (place.lane != 0) continue;
    // Threads of one span lie as far apart as there are spans in the chunk.
    const int step = min(kChunkSpans, static_cast<int>((n + kSpan - 1) / kSpan) -
                                          static_cast<int>(blockIdx.y) * kChunkSpans);
    float* to = partials + (static_cast<int64_t>(blockIdx.x) * kSums + s) * n + place.column;
    for (int j = 0; j < place.count; ++j) {
      float sum = 0.0F;
      for (int lane = 0; lane < place.num_lanes; ++lane) {
        sum += shared[j][static_cast<int>(threadIdx.x) + lane * step];
      }
      to[j] = sum;
    }
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

inline dim3 column_grid(const ColumnCut& cut) {
  return {static_cast<unsigned>(cut.num_ctas), static_cast<unsigned>(cut.num_chunks)};
}

/// CTAs of a kernel that sums nothing: as many as give every thread a few rows.
constexpr int kManyCtas = 1 << 20;

}  // namespace comet::ops_cuda
