// Gradients of layer_norm. With g = dy · weight and x̂ = (x − mean) · inv_std of a row: dx = inv_std
// · (g − mean(g) − x̂ · mean(g·x̂)); weight_grad += Σ dy·x̂ and bias_grad += Σ dy over the rows. Two
// passes: rows (a warp each up to n = 1,024, a CTA beyond), which leave mean and inv_std [rows]
// twice in the workspace; then the columns' sums (columns.cuh), before dx overwrites dy.
// Floor: 6 times the bytes of x at copy rate (x and dy read twice or thrice, dx written).
#include <cuda_runtime_api.h>

#include "comet/device/cuda/cuda_check.h"
#include "comet/ops/cuda/columns.cuh"
#include "comet/ops/cuda/image_launches.h"
#include "comet/ops/cuda/training_launches.h"

namespace comet::ops_cuda {
namespace {

/// Sum over a group of threads that share a row: a warp, or the CTA.
struct WarpGroup {
  int rank;
  static constexpr int kSize = 32;
  __device__ float sum(float x) const { return warp_sum(x); }
};
struct BlockGroup {
  int rank;
  float* partial;
  static constexpr int kSize = kThreads;
  __device__ float sum(float x) const {
    __syncthreads();
    return block_sum(x, partial);
  }
};

/// body(column, count) for the group's spans of a row.
template <typename Group, typename Body>
__device__ __forceinline__ void for_spans(const Group& group, int64_t n, const Body& body) {
  for (int column = group.rank * kSpan; column < n; column += Group::kSize * kSpan) {
    body(column, min(kSpan, static_cast<int>(n) - column));
  }
}

template <typename Group>
__device__ __forceinline__ void row_stats(const NormArgs& args, const Group& group, int64_t row,
                                          bool is_wide, float* mean_out, float* inv_std_out) {
  const auto n = static_cast<float>(args.n);
  const auto sum_of = [&](const auto& f) {
    float sum = 0.0F;
    for_spans(group, args.n, [&](int column, int count) {
      float v[kSpan];
      load_span(v, args.x.data, args.x.type, row * args.x.stride + column, count, is_wide);
#pragma unroll
      for (int j = 0; j < kSpan; ++j) {
        if (j < count) sum += f(v[j]);
      }
    });
    return group.sum(sum);
  };
  const float mean = sum_of([](float x) { return x; }) / n;
  const float squares = sum_of([&](float x) { return (x - mean) * (x - mean); });
  if (group.rank == 0) {
    *mean_out = mean;
    *inv_std_out = 1.0F / sqrtf(squares / n + args.eps);
  }
}

template <typename Group>
__device__ __forceinline__ void row_gradient(const NormArgs& args, const Group& group, int64_t row,
                                             bool is_wide, float mean, float inv_std) {
  float sum = 0.0F;
  float dot = 0.0F;
  const auto load = [&](float(&x)[kSpan], float(&g)[kSpan], int column, int count) {
    float weight[kSpan];
    load_span(x, args.x.data, args.x.type, row * args.x.stride + column, count, is_wide);
    load_span(g, args.dy.data, args.dy.type, row * args.dy.stride + column, count, is_wide);
    load_span(weight, args.weight, FloatType::kF32, column, count, false);
#pragma unroll
    for (int j = 0; j < kSpan; ++j) {
      x[j] = (x[j] - mean) * inv_std;
      g[j] *= weight[j];
    }
  };
  for_spans(group, args.n, [&](int column, int count) {
    float x[kSpan];
    float g[kSpan];
    load(x, g, column, count);
#pragma unroll
    for (int j = 0; j < kSpan; ++j) {
      sum += g[j];  // 0 where there is no column
      dot = fmaf(g[j], x[j], dot);
    }
  });
  const auto n = static_cast<float>(args.n);
  const float mean_grad = group.sum(sum) / n;
  const float mean_dot = group.sum(dot) / n;
  for_spans(group, args.n, [&](int column, int count) {
    float x[kSpan];
    float g[kSpan];
    load(x, g, column, count);
#pragma unroll
    for (int j = 0; j < kSpan; ++j) g[j] = inv_std * (g[j] - mean_grad - x[j] * mean_dot);
    store_span(args.out.data, args.out.type, row * args.out.stride + column, g, count, is_wide);
  });
}

constexpr int64_t kMaxWarpSize = 1024;
constexpr int kWarps = kThreads / 32;

/// kGradient: dx from the statistics in `stats`; else the statistics.
template <bool kGradient, bool kWarp>
__global__ void __launch_bounds__(kThreads) rows_kernel(NormArgs args, float* stats, bool is_wide) {
  __shared__ float partial[32];
  const int64_t row = kWarp ? static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32
                            : static_cast<int64_t>(blockIdx.x);
  if (row >= args.rows) return;
  const auto run = [&](const auto& group) {
    if constexpr (kGradient) {
      row_gradient(args, group, row, is_wide, stats[row], stats[args.rows + row]);
    } else {
      row_stats(args, group, row, is_wide, stats + row, stats + args.rows + row);
    }
  };
  if constexpr (kWarp) {
    run(WarpGroup{static_cast<int>(threadIdx.x) % 32});
  } else {
    run(BlockGroup{static_cast<int>(threadIdx.x), partial});
  }
}

template <bool kWide>
__global__ void __launch_bounds__(kThreads)
    norm_sums_kernel(NormArgs args, ColumnCut cut, const float* stats, bool is_wide) {
  const ColumnPlace place = column_place(cut, args.rows, args.n);
  float sums[2][kSpan] = {};
  const FloatRows inputs[2] = {args.x, args.dy};
  for_rows<kWide>(inputs, place, is_wide, [&](int64_t row, const float(&v)[2][kSpan]) {
    const float mean = __ldg(stats + row);
    const float inv_std = __ldg(stats + args.rows + row);
#pragma unroll
    for (int j = 0; j < kSpan; ++j) {
      sums[0][j] = fmaf(v[1][j], (v[0][j] - mean) * inv_std, sums[0][j]);
      sums[1][j] += v[1][j];
    }
  });
  write_column_sums(sums, place, args.n, args.workspace);
}

template <bool kGradient>
void launch_rows(const NormArgs& args, float* stats, bool is_wide, CUstream_st* stream) {
  if (args.n <= kMaxWarpSize) {
    const auto num_ctas = static_cast<unsigned>((args.rows + kWarps - 1) / kWarps);
    rows_kernel<kGradient, true><<<num_ctas, kThreads, 0, stream>>>(args, stats, is_wide);
  } else {
    rows_kernel<kGradient, false>
        <<<static_cast<unsigned>(args.rows), kThreads, 0, stream>>>(args, stats, is_wide);
  }
  COMET_CUDA(cudaGetLastError());
}

}  // namespace

void launch_layer_norm_backward(const NormArgs& args, CUstream_st* stream) {
  if (args.rows == 0 || args.n == 0) return;
  const bool is_wide = has_wide_rows(args.out) && has_wide_rows(args.x) && has_wide_rows(args.dy);
  const ColumnCut cut = column_cut(args.rows, args.n, kMaxColumnCtas);
  float* stats = args.workspace + column_workspace(args.rows, args.n, 2);
  launch_rows<false>(args, stats, is_wide, stream);
  const auto sums =
      is_wide_bf16({args.x, args.dy}, args.n) ? norm_sums_kernel<true> : norm_sums_kernel<false>;
  sums<<<column_grid(cut), kThreads, 0, stream>>>(args, cut, stats, is_wide);
  COMET_CUDA(cudaGetLastError());
  launch_sum_partials({{args.weight_grad, args.n}, {args.bias_grad, args.n}}, args.workspace,
                      cut.num_ctas, stream);
  launch_rows<true>(args, stats, is_wide, stream);
}

}  // namespace comet::ops_cuda
