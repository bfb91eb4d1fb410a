// The Hadamard transform of docs/formats.md §1 on every head, in place: x [tokens, heads, d], d a
// power of two up to 512. Grid: one warp per head. Numerics: FP32 in the CPU's order, bit for bit;
// then x's type. Floor: 2 · tokens · heads · d · bytes at copy rate.
#include "comet/ops/hadamard/cuda/hadamard.cuh"

#include <cuda_runtime_api.h>

#include <cmath>

#include "comet/device/cuda/cuda_check.h"
#include "comet/ops/cuda/vectors.cuh"

namespace comet::ops_cuda {
namespace {

constexpr int kWarpsPerBlock = kThreads / 32;

template <int kNum>
__global__ void __launch_bounds__(kThreads) hadamard_kernel(FloatHeads x, float factor) {
  const int64_t head_idx = static_cast<int64_t>(blockIdx.x) * kWarpsPerBlock + threadIdx.x / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (head_idx >= x.num_tokens * x.num_heads) return;
  const int64_t at = head_begin(x, head_idx);
  const auto n = static_cast<int>(x.head_dim);
  float v[kNum];
#pragma unroll
  for (int i = 0; i < kNum; ++i) {
    const int column = i * 32 + lane;
    v[i] = column < n ? load_one(x.data, x.type, at + column) : 0.0F;
  }
  hadamard_warp<kNum>(v, n, factor);
#pragma unroll
  for (int i = 0; i < kNum; ++i) {
    const int column = i * 32 + lane;
    if (column < n) store_one(x.data, x.type, at + column, v[i]);
  }
}

}  // namespace

void launch_hadamard(const FloatHeads& x, CUstream_st* stream) {
  const int64_t num_heads = x.num_tokens * x.num_heads;
  if (num_heads == 0 || x.head_dim == 0) return;
  const auto factor = static_cast<float>(1.0 / std::sqrt(static_cast<double>(x.head_dim)));
  const auto num_blocks = static_cast<unsigned>((num_heads + kWarpsPerBlock - 1) / kWarpsPerBlock);
  void (*const kernel)(FloatHeads, float) = x.head_dim <= 32    ? hadamard_kernel<1>
                                            : x.head_dim == 64  ? hadamard_kernel<2>
                                            : x.head_dim == 128 ? hadamard_kernel<4>
                                            : x.head_dim == 256 ? hadamard_kernel<8>
                                                                : hadamard_kernel<16>;
  kernel<<<num_blocks, kThreads, 0, stream>>>(x, factor);
  COMET_CUDA(cudaGetLastError());
}

}  // namespace comet::ops_cuda
