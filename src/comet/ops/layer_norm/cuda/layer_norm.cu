// out [rows, n] = (x − mean) / √(variance + eps) · weight + bias (Ba, Kiros, Hinton 2016).
// Grid: BF16 of whole aligned spans up to n = 1,024: a group of lanes takes a few rows at once, all
// of them on their way before the first is used; other matrices: a warp per row up to n = 1,024,
// which lies in registers between the uses; a CTA per row beyond, which is read three times from
// L1. Numerics: FP32; the variance of what is centred already, so that a large mean costs no
// digits; sums are trees, the same bits for every launch. Floor: bytes of x and out at copy rate.
#include <cuda_runtime_api.h>

#include "comet/device/cuda/cuda_check.h"
#include "comet/ops/cuda/columns.cuh"
#include "comet/ops/cuda/image_launches.h"
#include "comet/ops/cuda/vectors.cuh"

namespace comet::ops_cuda {
namespace {

constexpr int kWarpsPerBlock = kThreads / 32;
constexpr int kMaxWarpSpans = 4;

struct Moments {
  float mean = 0.0F;
  float scale = 0.0F;  // 1 / √(variance + eps)
};

__device__ __forceinline__ void norm_span(float (&v)[kSpan], const LayerNormArgs& args,
                                          const Moments& moments, int column, int count,
                                          bool is_wide) {
  float weight[kSpan];
  float bias[kSpan];
  load_span(weight, args.weight, FloatType::kF32, column, count, is_wide);
  load_span(bias, args.bias, FloatType::kF32, column, count, is_wide);
#pragma unroll
  for (int j = 0; j < kSpan; ++j) {
    v[j] = fmaf((v[j] - moments.mean) * moments.scale, weight[j], bias[j]);
  }
}

__device__ __forceinline__ float group_sum(float x, int num_lanes) {
  for (int step = num_lanes / 2; step > 0; step /= 2) x += __shfl_xor_sync(0xFFFFFFFF, x, step);
  return x;
}

/// kLanes lanes per row, kSpans spans a lane, kRows rows at once. BF16, n % 8 == 0, aligned.
template <int kLanes, int kSpans, int kRows>
__global__ void __launch_bounds__(kThreads) wide_layer_norm_kernel(LayerNormArgs args) {
  constexpr int kGroups = kThreads / kLanes;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * kGroups + threadIdx.x / kLanes) * kRows;
  const auto n = static_cast<int>(args.n);
  const auto* x = static_cast<const uint16_t*>(args.x.data);
  uint4 bits[kRows][kSpans];
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int i = 0; i < kSpans; ++i) {
      const int column = (i * kLanes + lane) * kSpan;
      bits[r][i] = make_uint4(0, 0, 0, 0);
      if (column < n && first + r < args.rows) {
        bits[r][i] = *reinterpret_cast<const uint4*>(x + (first + r) * args.x.stride + column);
      }
    }
  }
  Moments moments[kRows];
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    float sum = 0.0F;
#pragma unroll
    for (int i = 0; i < kSpans; ++i) {
      float v[kSpan];
      widen_span(v, bits[r][i]);
#pragma unroll
      for (int j = 0; j < kSpan; ++j) sum += v[j];
    }
    const float mean = group_sum(sum, kLanes) / static_cast<float>(n);
    float squares = 0.0F;
#pragma unroll
    for (int i = 0; i < kSpans; ++i) {
      float v[kSpan];
      widen_span(v, bits[r][i]);
      const bool exists = (i * kLanes + lane) * kSpan < n;
#pragma unroll
      for (int j = 0; j < kSpan; ++j) {
        const float centred = exists ? v[j] - mean : 0.0F;
        squares = fmaf(centred, centred, squares);
      }
    }
    const float variance = group_sum(squares, kLanes) / static_cast<float>(n);
    moments[r] = {mean, 1.0F / sqrtf(variance + args.eps)};
  }
#pragma unroll
  for (int i = 0; i < kSpans; ++i) {
    const int column = (i * kLanes + lane) * kSpan;
    if (column >= n) break;
    float weight[kSpan];
    float bias[kSpan];
    load_span(weight, args.weight, FloatType::kF32, column, kSpan, true);
    load_span(bias, args.bias, FloatType::kF32, column, kSpan, true);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (first + r >= args.rows) break;
      float v[kSpan];
      widen_span(v, bits[r][i]);
#pragma unroll
      for (int j = 0; j < kSpan; ++j) {
        v[j] = fmaf((v[j] - moments[r].mean) * moments[r].scale, weight[j], bias[j]);
      }
      store_span(args.out.data, FloatType::kBF16, (first + r) * args.out.stride + column, v, kSpan,
                 true);
    }
  }
}

template <int kNumSpans>
__global__ void __launch_bounds__(kThreads)
    warp_layer_norm_kernel(LayerNormArgs args, bool is_wide) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kWarpsPerBlock + threadIdx.x / 32;
  if (row >= args.rows) return;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const auto n = static_cast<int>(args.n);
  float v[kNumSpans][kSpan];
  float sum = 0.0F;
#pragma unroll
  for (int i = 0; i < kNumSpans; ++i) {
    const int column = (i * 32 + lane) * kSpan;
    load_span(v[i], args.x.data, args.x.type, row * args.x.stride + column,
              min(max(n - column, 0), kSpan), is_wide);
#pragma unroll
    for (int j = 0; j < kSpan; ++j) sum += v[i][j];
  }
  Moments moments;
  moments.mean = warp_sum(sum) / static_cast<float>(n);
  float squares = 0.0F;
#pragma unroll
  for (int i = 0; i < kNumSpans; ++i) {
#pragma unroll
    for (int j = 0; j < kSpan; ++j) {
      const float centred = (i * 32 + lane) * kSpan + j < n ? v[i][j] - moments.mean : 0.0F;
      squares = fmaf(centred, centred, squares);
    }
  }
  moments.scale = 1.0F / sqrtf(warp_sum(squares) / static_cast<float>(n) + args.eps);
#pragma unroll
  for (int i = 0; i < kNumSpans; ++i) {
    const int column = (i * 32 + lane) * kSpan;
    const int count = min(max(n - column, 0), kSpan);
    if (count == 0) break;
    norm_span(v[i], args, moments, column, count, is_wide);
    store_span(args.out.data, args.out.type, row * args.out.stride + column, v[i], count, is_wide);
  }
}

/// Σ f(x) over the row of this CTA.
template <typename F>
__device__ __forceinline__ float row_sum(const LayerNormArgs& args, bool is_wide, float* partial,
                                         const F& f) {
  const auto n = static_cast<int>(args.n);
  float sum = 0.0F;
  for (int column = static_cast<int>(threadIdx.x) * kSpan; column < n; column += kThreads * kSpan) {
    const int count = min(n - column, kSpan);
    float v[kSpan];
    load_span(v, args.x.data, args.x.type, blockIdx.x * args.x.stride + column, count, is_wide);
#pragma unroll
    for (int j = 0; j < kSpan; ++j) {
      if (j < count) sum += f(v[j]);
    }
  }
  return block_sum(sum, partial);
}

__global__ void __launch_bounds__(kThreads)
    block_layer_norm_kernel(LayerNormArgs args, bool is_wide) {
  __shared__ float partial[2][32];
  const auto n = static_cast<int>(args.n);
  Moments moments;
  moments.mean =
      row_sum(args, is_wide, partial[0], [](float x) { return x; }) / static_cast<float>(n);
  const float squares = row_sum(args, is_wide, partial[1], [&](float x) {
    const float centred = x - moments.mean;
    return centred * centred;
  });
  moments.scale = 1.0F / sqrtf(squares / static_cast<float>(n) + args.eps);
  for (int column = static_cast<int>(threadIdx.x) * kSpan; column < n; column += kThreads * kSpan) {
    const int count = min(n - column, kSpan);
    float v[kSpan];
    load_span(v, args.x.data, args.x.type, blockIdx.x * args.x.stride + column, count, is_wide);
    norm_span(v, args, moments, column, count, is_wide);
    store_span(args.out.data, args.out.type, blockIdx.x * args.out.stride + column, v, count,
               is_wide);
  }
}

template <int kLanes, int kSpans, int kRows>
void launch_wide(const LayerNormArgs& args, CUstream_st* stream) {
  constexpr int64_t kRowsOfBlock = int64_t{kThreads} / kLanes * kRows;
  const auto num_blocks = static_cast<unsigned>((args.rows + kRowsOfBlock - 1) / kRowsOfBlock);
  wide_layer_norm_kernel<kLanes, kSpans, kRows><<<num_blocks, kThreads, 0, stream>>>(args);
}

}  // namespace

void launch_layer_norm(const LayerNormArgs& args, CUstream_st* stream) {
  if (args.rows == 0 || args.n == 0) return;
  const auto weights =
      reinterpret_cast<uintptr_t>(args.weight) | reinterpret_cast<uintptr_t>(args.bias);
  const bool is_wide = has_wide_rows(args.out) && has_wide_rows(args.x) && weights % 16 == 0;
  const auto num_blocks = static_cast<unsigned>((args.rows + kWarpsPerBlock - 1) / kWarpsPerBlock);
  if (weights % 16 == 0 && args.n <= 1024 && is_wide_bf16({args.out, args.x}, args.n)) {
    if (args.n <= 16 * kSpan) {
      launch_wide<16, 1, 4>(args, stream);
    } else if (args.n <= 32 * kSpan) {
      launch_wide<32, 1, 4>(args, stream);
    } else if (args.n <= 64 * kSpan) {
      launch_wide<32, 2, 2>(args, stream);
    } else if (args.n <= 96 * kSpan) {
      launch_wide<32, 3, 2>(args, stream);
    } else {
      launch_wide<32, 4, 1>(args, stream);
    }
  } else if (args.n <= 32 * kSpan) {
    warp_layer_norm_kernel<1><<<num_blocks, kThreads, 0, stream>>>(args, is_wide);
  } else if (args.n <= 32 * kSpan * kMaxWarpSpans) {
    warp_layer_norm_kernel<kMaxWarpSpans><<<num_blocks, kThreads, 0, stream>>>(args, is_wide);
  } else {
    block_layer_norm_kernel<<<static_cast<unsigned>(args.rows), kThreads, 0, stream>>>(args,
                                                                                       is_wide);
  }
  COMET_CUDA(cudaGetLastError());
}

}  // namespace comet::ops_cuda
