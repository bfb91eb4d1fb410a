// losses [rows] = −Σ target · log softmax(logits); dlogits = scale · (Σ target · softmax − target).
// Grid: a CTA per row, which passes over it three times (L1). Numerics: FP32, the largest logit
// taken off first; trees, the same bits for every launch. Floor: launch latency (128 × 1,000).
#include <cuda_runtime_api.h>

#include <cmath>

#include "comet/device/cuda/cuda_check.h"
#include "comet/ops/cuda/training_launches.h"
#include "comet/ops/cuda/vectors.cuh"

namespace comet::ops_cuda {
namespace {

__device__ __forceinline__ float block_max(float x, float* partial) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(0xFFFFFFFF, x, step));
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = x;
  __syncthreads();
  x = partial[threadIdx.x % (kThreads / 32)];
#pragma unroll
  for (int step = 16; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(0xFFFFFFFF, x, step));
  return x;
}

__global__ void __launch_bounds__(kThreads) cross_entropy_kernel(CrossEntropyArgs args) {
  __shared__ float partial[4][32];
  const int64_t row = blockIdx.x;
  const auto n = static_cast<int>(args.n);
  const float* targets = args.targets + row * args.target_stride;
  const auto logit = [&](int c) {
    return load_one(args.logits.data, args.logits.type, row * args.logits.stride + c);
  };
  float largest = -INFINITY;
  for (int c = static_cast<int>(threadIdx.x); c < n; c += kThreads) {
    largest = fmaxf(largest, logit(c));
  }
  largest = block_max(largest, partial[0]);
  float sum = 0.0F;
  float weight = 0.0F;
  float dot = 0.0F;
  for (int c = static_cast<int>(threadIdx.x); c < n; c += kThreads) {
    const float x = logit(c) - largest;
    sum += expf(x);
    weight += targets[c];
    dot = fmaf(targets[c], x, dot);
  }
  sum = block_sum(sum, partial[1]);
  weight = block_sum(weight, partial[2]);
  dot = block_sum(dot, partial[3]);
  if (threadIdx.x == 0) args.losses[row] = fmaf(weight, logf(sum), -dot);
  for (int c = static_cast<int>(threadIdx.x); c < n; c += kThreads) {
    const float softmax = expf(logit(c) - largest) / sum;
    store_one(args.dlogits.data, args.dlogits.type, row * args.dlogits.stride + c,
              args.scale * fmaf(weight, softmax, -targets[c]));
  }
}

}  // namespace

void launch_cross_entropy(const CrossEntropyArgs& args, CUstream_st* stream) {
  if (args.rows == 0 || args.n == 0) return;
  cross_entropy_kernel<<<static_cast<unsigned>(args.rows), kThreads, 0, stream>>>(args);
  COMET_CUDA(cudaGetLastError());
}

}  // namespace comet::ops_cuda
