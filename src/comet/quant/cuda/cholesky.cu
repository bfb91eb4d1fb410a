// The factor that GPTQ's feedback reads: damped Hessian in reversed coding order → L·Lᵀ → rows
// U_ji / U_ii (weights/gptq.h), all in FP64 but the last.
// Operands: [k, k] row-major, lower triangle; panels of 64 columns. factor_diagonal_kernel: one CTA
// a panel; solve_rows_kernel: one warp a row below it; the rest of the columns: gram.cu.
// Numerics: FP64; differs from weights/cholesky.cpp, whose trailing sums are FP32, by that.
// Floor: k³/3 fma halves; k = 14,336: 0.98 TFLOP, 60 ms at half of 34 TFLOP/s.
#include <cuda_runtime_api.h>

#include <algorithm>

#include "comet/device/cuda/cuda_check.h"
#include "comet/quant/cuda/launches.h"

namespace comet::quant::cuda {
namespace {

constexpr int kTile = static_cast<int>(kCholeskyTile);
constexpr int kStride = kTile + 1;  // of a tile's row in shared memory: no conflicts by column
constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kMaxSolveCtas = 1024;
constexpr unsigned kAllLanes = 0xFFFFFFFFU;

__global__ void __launch_bounds__(kThreads)
    reversed_order_kernel(const double* hessian, const int32_t* order, double damping, int64_t k,
                          double* lower) {
  const int64_t i = blockIdx.y;
  const int64_t j = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (j > i) return;
  const int64_t from = order[k - 1 - i];
  const int64_t to = order[k - 1 - j];
  const double entry = hessian[max(from, to) * k + min(from, to)];
  lower[i * k + j] = i == j ? entry + damping : entry;
}

__device__ void load_tile(const double* a, int64_t stride, double (*tile)[kStride]) {
  for (int idx = static_cast<int>(threadIdx.x); idx < kTile * kTile; idx += kThreads) {
    const int i = idx / kTile;
    const int j = idx % kTile;
    tile[i][j] = j <= i ? a[i * stride + j] : 0.0;
  }
}

__global__ void __launch_bounds__(kThreads)
    factor_diagonal_kernel(double* a, int64_t stride, int* failed) {
  __shared__ double tile[kTile][kStride];
  load_tile(a, stride, tile);
  __syncthreads();
  const int column = static_cast<int>(threadIdx.x) % kTile;
  const int first_row = static_cast<int>(threadIdx.x) / kTile;
  constexpr int kRowStep = kThreads / kTile;
  for (int j = 0; j < kTile; ++j) {
    const double pivot = tile[j][j];
    const bool positive = pivot > 0.0 && isfinite(pivot);
    if (!positive && threadIdx.x == 0) *failed = 1;
    const double root = sqrt(pivot);
    const double inverse = 1.0 / root;
    __syncthreads();
    if (threadIdx.x < kTile) {
      const int i = static_cast<int>(threadIdx.x);
      if (i == j) tile[i][j] = root;
      if (i > j) tile[i][j] *= inverse;
    }
    __syncthreads();
    if (column > j) {
      const double factor = tile[column][j];
      for (int i = first_row; i < kTile; i += kRowStep) {
        if (i >= column) tile[i][column] = __fma_rn(-tile[i][j], factor, tile[i][column]);
      }
    }
    __syncthreads();
  }
  for (int idx = static_cast<int>(threadIdx.x); idx < kTile * kTile; idx += kThreads) {
    if (idx % kTile <= idx / kTile)
      a[idx / kTile * stride + idx % kTile] = tile[idx / kTile][idx % kTile];
  }
}

/// rows [num_rows, kTile] of stride `stride`: solves L · x = row for each; `tile` is L's place.
__global__ void __launch_bounds__(kThreads)
    solve_rows_kernel(const double* tile_at, double* rows, int64_t num_rows, int64_t stride) {
  __shared__ double tile[kTile][kStride];
  __shared__ double inverse[kTile];
  load_tile(tile_at, stride, tile);
  __syncthreads();
  if (threadIdx.x < kTile) inverse[threadIdx.x] = 1.0 / tile[threadIdx.x][threadIdx.x];
  __syncthreads();
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  for (int64_t i = first; i < num_rows; i += static_cast<int64_t>(gridDim.x) * kWarps) {
    double* row = rows + i * stride;
    double x[2] = {row[lane], row[lane + 32]};
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      for (int s = 0; s < 32; ++s) {
        const int p = 32 * half + s;
        const double solved = __shfl_sync(kAllLanes, x[half], s) * inverse[p];
        if (lane == s) x[half] = solved;
        if (lane > s) x[half] = __fma_rn(-solved, tile[lane + 32 * half][p], x[half]);
        if (half == 0) x[1] = __fma_rn(-solved, tile[lane + 32][p], x[1]);
      }
    }
    row[lane] = x[0];
    row[lane + 32] = x[1];
  }
}

constexpr int kSquare = 32;

__global__ void __launch_bounds__(kSquare* kSquare / 4)
    feedback_factor_kernel(const double* lower, int64_t k, float* factor) {
  __shared__ double square[kSquare][kSquare + 1];  // [j][i]
  const int64_t first_i = static_cast<int64_t>(blockIdx.y) * kSquare;
  const int64_t first_j = static_cast<int64_t>(blockIdx.x) * kSquare;
  const int lane = static_cast<int>(threadIdx.x);
  // A row of L holds one j of many i: neighbouring lanes take neighbouring i, backwards.
  for (int j = static_cast<int>(threadIdx.y); j < kSquare; j += static_cast<int>(blockDim.y)) {
    const int64_t row = k - 1 - (first_j + j);
    const int64_t column = k - 1 - (first_i + lane);
    square[j][lane] = column <= row ? lower[row * k + column] : 0.0;
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.y); i < kSquare; i += static_cast<int>(blockDim.y)) {
    const int64_t at = first_i + i;
    const int64_t j = first_j + lane;
    const int64_t diagonal = k - 1 - at;
    factor[at * k + j] =
        j < at ? static_cast<float>(square[lane][i] / lower[diagonal * k + diagonal]) : 0.0F;
  }
}

}  // namespace

void launch_reversed_order(const double* hessian, const int32_t* order, double damping, int64_t k,
                           double* lower, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>((k + kThreads - 1) / kThreads), static_cast<unsigned>(k));
  reversed_order_kernel<<<grid, kThreads, 0, stream>>>(hessian, order, damping, k, lower);
  COMET_CUDA(cudaGetLastError());
}

void launch_cholesky(double* a, int64_t k, int* failed, cudaStream_t stream) {
  COMET_CUDA(cudaMemsetAsync(failed, 0, sizeof(int), stream));
  for (int64_t begin = 0; begin < k; begin += kTile) {
    double* diagonal = a + begin * k + begin;
    factor_diagonal_kernel<<<1, kThreads, 0, stream>>>(diagonal, k, failed);
    COMET_CUDA(cudaGetLastError());
    const int64_t num_rows = k - begin - kTile;
    if (num_rows == 0) break;
    double* below = diagonal + kTile * k;
    const int64_t num_ctas = std::min<int64_t>((num_rows + kWarps - 1) / kWarps, kMaxSolveCtas);
    solve_rows_kernel<<<static_cast<unsigned>(num_ctas), kThreads, 0, stream>>>(diagonal, below,
                                                                                num_rows, k);
    COMET_CUDA(cudaGetLastError());
    const GramArgs update{below + kTile, k, num_rows, kTile, -1.0};
    launch_gram_of_rows(update, below, k, stream);
  }
}

void launch_feedback_factor(const double* lower, int64_t k, float* factor, cudaStream_t stream) {
  const auto squares = static_cast<unsigned>(k / kSquare);
  feedback_factor_kernel<<<dim3(squares, squares), dim3(kSquare, kSquare / 4), 0, stream>>>(
      lower, k, factor);
  COMET_CUDA(cudaGetLastError());
}

}  // namespace comet::quant::cuda
