// c[i, j] += factor · Σ_t x_i(t)·x_j(t), lower triangle, FP64: Hessians (x: FP32 rows of tokens)
// and the trailing updates of their Cholesky factorization (x: FP64 rows of a panel). Operands: see
// launches.h. One CTA a tile of 128 × 128 on or below the diagonal, 8 × 8 sums a thread; both
// operands pass through shared memory, 16 deep, the next piece waits in registers. Numerics:
// products of FP32 are exact, sums are FP64 fma chains in order of t: the same bits whatever the
// card. Floor: n²·depth FP64 fma halves; 4,096 channels × 2,048 tokens: 17 G fma, 1 ms at 34
// TFLOP/s.
#include <cuda_runtime_api.h>

#include "comet/device/cuda/cuda_check.h"
#include "comet/quant/cuda/launches.h"

namespace comet::quant::cuda {
namespace {

constexpr int kTile = 128;
constexpr int kDepth = 8;
constexpr int kThreads = 256;
constexpr int kStride = kTile + 2;  // of a row in shared memory: 16-byte aligned, few conflicts
constexpr int kLoads = kTile * kDepth / kThreads;
constexpr int kPairs = 4;  // of neighbouring rows (columns) a thread, 32 apart

struct ColumnSource {
  const float* data;
  int64_t stride;
  using Value = float;
  static __device__ int channel_of(int idx) { return idx % kTile; }
  static __device__ int depth_of(int idx) { return idx / kTile; }
  __device__ float at(int64_t i, int64_t t) const { return data[t * stride + i]; }
};

struct RowSource {
  const double* data;
  int64_t stride;
  using Value = double;
  static __device__ int channel_of(int idx) { return idx / kDepth; }
  static __device__ int depth_of(int idx) { return idx % kDepth; }
  __device__ double at(int64_t i, int64_t t) const { return data[i * stride + t]; }
};

template <typename Source>
struct Piece {
  typename Source::Value values[kLoads];

  __device__ void load(const Source& x, int64_t first, int64_t n, int64_t begin, int64_t depth) {
#pragma unroll
    for (int s = 0; s < kLoads; ++s) {
      const int idx = static_cast<int>(threadIdx.x) + s * kThreads;
      const int64_t i = first + Source::channel_of(idx);
      const int64_t t = begin + Source::depth_of(idx);
      values[s] = i < n && t < depth ? x.at(i, t) : typename Source::Value{0};
    }
  }
  __device__ void store(double* shared) const {
#pragma unroll
    for (int s = 0; s < kLoads; ++s) {
      const int idx = static_cast<int>(threadIdx.x) + s * kThreads;
      shared[Source::depth_of(idx) * kStride + Source::channel_of(idx)] =
          static_cast<double>(values[s]);
    }
  }
};

/// Row and column of the idx-th tile on or below the diagonal, row by row.
__device__ int2 tile_of(int idx) {
  int row = static_cast<int>((sqrtf(8.0F * static_cast<float>(idx) + 1.0F) - 1.0F) * 0.5F);
  while ((row + 1) * (row + 2) / 2 <= idx) ++row;
  while (row * (row + 1) / 2 > idx) --row;
  return make_int2(row, idx - row * (row + 1) / 2);
}

__device__ void multiply(const double* a, const double* b, int ty, int tx,
                         double (&sums)[2 * kPairs][2 * kPairs]) {
#pragma unroll 4
  for (int t = 0; t < kDepth; ++t) {
    double2 x[kPairs];
    double2 y[kPairs];
#pragma unroll
    for (int p = 0; p < kPairs; ++p) {
      x[p] = *reinterpret_cast<const double2*>(a + t * kStride + 2 * ty + 32 * p);
      y[p] = *reinterpret_cast<const double2*>(b + t * kStride + 2 * tx + 32 * p);
    }
#pragma unroll
    for (int p = 0; p < kPairs; ++p) {
#pragma unroll
      for (int q = 0; q < kPairs; ++q) {
        sums[2 * p][2 * q] = __fma_rn(x[p].x, y[q].x, sums[2 * p][2 * q]);
        sums[2 * p][2 * q + 1] = __fma_rn(x[p].x, y[q].y, sums[2 * p][2 * q + 1]);
        sums[2 * p + 1][2 * q] = __fma_rn(x[p].y, y[q].x, sums[2 * p + 1][2 * q]);
        sums[2 * p + 1][2 * q + 1] = __fma_rn(x[p].y, y[q].y, sums[2 * p + 1][2 * q + 1]);
      }
    }
  }
}

template <typename Source>
__global__ void __launch_bounds__(kThreads, 1) gram_kernel(GramArgs args, Source x) {
  __shared__ __align__(16) double a[kDepth * kStride];
  __shared__ __align__(16) double b[kDepth * kStride];
  const int2 tile = tile_of(static_cast<int>(blockIdx.x));
  const int64_t first_row = static_cast<int64_t>(tile.x) * kTile;
  const int64_t first_column = static_cast<int64_t>(tile.y) * kTile;
  const int tx = static_cast<int>(threadIdx.x) % 16;
  const int ty = static_cast<int>(threadIdx.x) / 16;
  double sums[2 * kPairs][2 * kPairs] = {};
  Piece<Source> rows;
  Piece<Source> columns;
  rows.load(x, first_row, args.n, 0, args.depth);
  columns.load(x, first_column, args.n, 0, args.depth);
  for (int64_t begin = 0; begin < args.depth; begin += kDepth) {
    rows.store(a);
    columns.store(b);
    __syncthreads();
    rows.load(x, first_row, args.n, begin + kDepth, args.depth);
    columns.load(x, first_column, args.n, begin + kDepth, args.depth);
    multiply(a, b, ty, tx, sums);
    __syncthreads();
  }
  // n is even, so a pair of columns is inside or outside.
#pragma unroll
  for (int i = 0; i < 2 * kPairs; ++i) {
    const int64_t row = first_row + 2 * ty + 32 * (i / 2) + i % 2;
    if (row >= args.n) continue;
#pragma unroll
    for (int q = 0; q < kPairs; ++q) {
      const int64_t column = first_column + 2 * tx + 32 * q;
      if (column >= args.n) continue;
      auto* target = reinterpret_cast<double2*>(args.c + row * args.c_stride + column);
      double2 sum = *target;
      sum.x = __fma_rn(args.factor, sums[i][2 * q], sum.x);
      sum.y = __fma_rn(args.factor, sums[i][2 * q + 1], sum.y);
      *target = sum;
    }
  }
}

template <typename Source>
void launch(const GramArgs& args, const Source& x, cudaStream_t stream) {
  if (args.n == 0 || args.depth == 0) return;
  const int64_t num_tiles = (args.n + kTile - 1) / kTile;
  const auto grid = static_cast<unsigned>(num_tiles * (num_tiles + 1) / 2);
  gram_kernel<Source><<<grid, kThreads, 0, stream>>>(args, x);
  COMET_CUDA(cudaGetLastError());
}

}  // namespace

void launch_gram_of_columns(const GramArgs& args, const float* rows, int64_t stride,
                            cudaStream_t stream) {
  launch(args, ColumnSource{rows, stride}, stream);
}

void launch_gram_of_rows(const GramArgs& args, const double* panel, int64_t stride,
                         cudaStream_t stream) {
  launch(args, RowSource{panel, stride}, stream);
}

}  // namespace comet::quant::cuda
