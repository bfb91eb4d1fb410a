// sums [n] += Σ over the rows of partials [num_rows, n], rows `stride` apart.
// Grid: a CTA takes 32 columns; eight groups of 32 threads take every eighth row, then their sums
// are added in order: the same bits whatever the card.
#include <cuda_runtime_api.h>

#include "comet/device/cuda/cuda_check.h"
#include "comet/ops/cuda/image_launches.h"

namespace comet::ops_cuda {
namespace {

constexpr int kColumns = 32;
constexpr int kGroups = 8;

__global__ void __launch_bounds__(kColumns* kGroups)
    sum_partials_kernel(float* sums, const float* partials, int64_t num_rows, int64_t n,
                        int64_t stride) {
  __shared__ float shared[kGroups][kColumns];
  const int lane = static_cast<int>(threadIdx.x) % kColumns;
  const int group = static_cast<int>(threadIdx.x) / kColumns;
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kColumns + lane;
  float sum = 0.0F;
  if (column < n) {
#pragma unroll 4
    for (int64_t row = group; row < num_rows; row += kGroups) {
      sum += partials[row * stride + column];
    }
  }
  shared[group][lane] = sum;
  __syncthreads();
  if (group != 0 || column >= n) return;
#pragma unroll
  for (int i = 1; i < kGroups; ++i) sum += shared[i][lane];
  sums[column] += sum;
}

}  // namespace

void launch_sum_partials(float* sums, const float* partials, int64_t num_rows, int64_t n,
                         int64_t stride, CUstream_st* stream) {
  if (n == 0) return;
  const auto num_ctas = static_cast<unsigned>((n + kColumns - 1) / kColumns);
  sum_partials_kernel<<<num_ctas, kColumns * kGroups, 0, stream>>>(sums, partials, num_rows, n,
                                                                   stride);
  COMET_CUDA(cudaGetLastError());
}

}  // namespace comet::ops_cuda
