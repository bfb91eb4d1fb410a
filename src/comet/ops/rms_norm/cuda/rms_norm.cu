// RMSNorm (Zhang, Sennrich 2019): x += delta; out = x · rsqrt(mean(x²) + eps) · weight.
// rms_norm_kernel: x [rows, n] F32 or BF16 (updated where there is a delta), out F32 or BF16; one
// CTA
//   per row, which lies in registers between the two uses: spans of 8, kNumSpans per thread.
// head_rms_norm_kernel: x [tokens, heads, head_dim] in place; one warp per head.
// Numerics: FP32; sum of squares by fma in each thread, then a tree over the CTA: the same bits for
// every launch of a shape.
// Floor: rows · n · (bytes of x (twice where it is updated), delta and out) at copy rate; 4,096 ×
// 4,096 with BF16 delta and out: 201 MB, 50 µs at 4 TB/s.
#include <cuda_runtime_api.h>

#include <algorithm>

#include "comet/device/cuda/cuda_check.h"
#include "comet/ops/cuda/vectors.cuh"

namespace comet::ops_cuda {
namespace {

constexpr int kMaxNormThreads = 512;
constexpr int kWarpsPerBlock = kThreads / 32;

template <int kNumSpans>
__global__ void __launch_bounds__(kMaxNormThreads) rms_norm_kernel(RmsNormArgs args, bool is_wide) {
  __shared__ float partial[32];
  const int64_t row = blockIdx.x;
  const int64_t x_at = row * args.x.stride;
  const auto n = static_cast<int>(args.n);
  float v[kNumSpans][kSpan];
  float sum = 0.0F;
  // Load, and add the delta.
#pragma unroll
  for (int i = 0; i < kNumSpans; ++i) {
    const int column = (i * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x)) * kSpan;
    const int count = min(max(n - column, 0), kSpan);
    load_span(v[i], args.x.data, args.x.type, x_at + column, count, is_wide);
    if (args.delta.data != nullptr) {
      float delta[kSpan];
      load_span(delta, args.delta.data, args.delta.type, row * args.delta.stride + column, count,
                is_wide);
#pragma unroll
      for (int j = 0; j < kSpan; ++j) v[i][j] += delta[j];
      store_span(args.x.data, args.x.type, x_at + column, v[i], count, is_wide);
    }
#pragma unroll
    for (int j = 0; j < kSpan; ++j) sum = fmaf(v[i][j], v[i][j], sum);
  }
  const float mean = block_sum(sum, partial) / static_cast<float>(n);
  const float scale = 1.0F / sqrtf(mean + args.eps);
  // Scale and store.
#pragma unroll
  for (int i = 0; i < kNumSpans; ++i) {
    const int column = (i * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x)) * kSpan;
    const int count = min(max(n - column, 0), kSpan);
    if (count == 0) break;
    float weight[kSpan];
    load_span(weight, args.weight, FloatType::kF32, column, count, is_wide);
#pragma unroll
    for (int j = 0; j < kSpan; ++j) v[i][j] = v[i][j] * scale * weight[j];
    store_span(args.out.data, args.out.type, row * args.out.stride + column, v[i], count, is_wide);
  }
}

__global__ void __launch_bounds__(kThreads)
    head_rms_norm_kernel(FloatHeads x, const float* weight, float eps, bool is_wide) {
  constexpr int kNumSpans = 2;  // 512 elements
  const int64_t head_idx = static_cast<int64_t>(blockIdx.x) * kWarpsPerBlock + threadIdx.x / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (head_idx >= x.num_tokens * x.num_heads) return;
  const int64_t at = head_begin(x, head_idx);
  const auto n = static_cast<int>(x.head_dim);
  float v[kNumSpans][kSpan];
  float sum = 0.0F;
#pragma unroll
  for (int i = 0; i < kNumSpans; ++i) {
    const int column = (i * 32 + lane) * kSpan;
    load_span(v[i], x.data, x.type, at + column, min(max(n - column, 0), kSpan), is_wide);
#pragma unroll
    for (int j = 0; j < kSpan; ++j) sum = fmaf(v[i][j], v[i][j], sum);
  }
  const float scale = 1.0F / sqrtf(warp_sum(sum) / static_cast<float>(n) + eps);
#pragma unroll
  for (int i = 0; i < kNumSpans; ++i) {
    const int column = (i * 32 + lane) * kSpan;
    const int count = min(max(n - column, 0), kSpan);
    if (count == 0) break;
    float w[kSpan];
    load_span(w, weight, FloatType::kF32, column, count, is_wide);
#pragma unroll
    for (int j = 0; j < kSpan; ++j) v[i][j] = v[i][j] * scale * w[j];
    store_span(x.data, x.type, at + column, v[i], count, is_wide);
  }
}

}  // namespace

void launch_rms_norm(const RmsNormArgs& args, CUstream_st* stream) {
  if (args.rows == 0 || args.n == 0) return;
  const bool is_wide = has_wide_rows(args.out) && has_wide_rows(args.x) &&
                       has_wide_rows(args.delta) &&
                       reinterpret_cast<uintptr_t>(args.weight) % 16 == 0;
  const auto num_spans = static_cast<int>((args.n + kSpan - 1) / kSpan);
  const int num_threads = std::min(kMaxNormThreads, (num_spans + 31) / 32 * 32);
  const auto num_blocks = static_cast<unsigned>(args.rows);
  if (num_spans <= num_threads) {
    rms_norm_kernel<1><<<num_blocks, num_threads, 0, stream>>>(args, is_wide);
  } else if (num_spans <= 2 * num_threads) {
    rms_norm_kernel<2><<<num_blocks, num_threads, 0, stream>>>(args, is_wide);
  } else if (num_spans <= 4 * num_threads) {
    rms_norm_kernel<4><<<num_blocks, num_threads, 0, stream>>>(args, is_wide);
  } else {
    rms_norm_kernel<8><<<num_blocks, num_threads, 0, stream>>>(args, is_wide);
  }
  COMET_CUDA(cudaGetLastError());
}

void launch_head_rms_norm(const FloatHeads& x, const float* weight, float eps,
                          CUstream_st* stream) {
  const int64_t num_heads = x.num_tokens * x.num_heads;
  if (num_heads == 0 || x.head_dim == 0) return;
  const bool is_wide = has_wide_heads(x) && reinterpret_cast<uintptr_t>(weight) % 16 == 0;
  const auto num_blocks = static_cast<unsigned>((num_heads + kWarpsPerBlock - 1) / kWarpsPerBlock);
  head_rms_norm_kernel<<<num_blocks, kThreads, 0, stream>>>(x, weight, eps, is_wide);
  COMET_CUDA(cudaGetLastError());
}

}  // namespace comet::ops_cuda
