// Batch norm in training (Ioffe, Szegedy 2015) of x [rows, n], a row per pixel.
// moments: mean and 1 / √(variance + eps) of every column from Σ(x − x₀) and Σ(x − x₀)², x₀ the
//   column's first row: a mean that is large beside the deviation costs no digits.
// batch_norm: out = x · scale + shift with what two vectors per column come to.
// backward: with x̂ = (x − mean) · inv_std and N rows: bias_grad += Σ dy, weight_grad += Σ dy·x̂,
//   dx = weight · inv_std · (dy − Σ dy / N − x̂ · Σ dy·x̂ / N).
// Grid: columns.cuh. Floors at copy rate: moments 1, batch_norm 2, backward 5 times the bytes of x.
#include <cuda_runtime_api.h>

#include "comet/device/cuda/cuda_check.h"
#include "comet/ops/cuda/columns.cuh"
#include "comet/ops/cuda/training_launches.h"

namespace comet::ops_cuda {
namespace {

template <bool kWide>
__global__ void __launch_bounds__(kThreads)
    moments_kernel(MomentsArgs args, ColumnCut cut, bool is_wide) {
  const ColumnPlace place = column_place(cut, args.rows, args.n);
  float first[kSpan];
  load_span(first, args.x.data, args.x.type, place.column, place.count, is_wide);
  float sums[2][kSpan] = {};
  const FloatRows x[1] = {args.x};
  for_rows<kWide>(x, place, is_wide, [&](int64_t, const float(&v)[1][kSpan]) {
#pragma unroll
    for (int j = 0; j < kSpan; ++j) {
      const float shifted = v[0][j] - first[j];
      sums[0][j] += shifted;
      sums[1][j] = fmaf(shifted, shifted, sums[1][j]);
    }
  });
  write_column_sums(sums, place, args.n, args.workspace);
}

constexpr int kColumns = 32;
constexpr int kGroups = 8;

/// totals[s] = Σ over the CTAs' partials [num_ctas][2][n] of a column, in a fixed order, in every
/// thread of group 0. Threads: kGroups groups of kColumns.
__device__ __forceinline__ void add_partials(double (&totals)[2], const float* partials,
                                             int num_ctas, int64_t n, int64_t column) {
  __shared__ double shared[2][kGroups][kColumns];
  const int lane = static_cast<int>(threadIdx.x) % kColumns;
  const int group = static_cast<int>(threadIdx.x) / kColumns;
#pragma unroll
  for (int s = 0; s < 2; ++s) {
    double sum = 0;
    if (column < n) {
#pragma unroll 4
      for (int cta = group; cta < num_ctas; cta += kGroups) {
        sum += static_cast<double>(partials[(static_cast<int64_t>(cta) * 2 + s) * n + column]);
      }
    }
    shared[s][group][lane] = sum;
  }
  __syncthreads();
#pragma unroll
  for (int s = 0; s < 2; ++s) {
    totals[s] = 0;
#pragma unroll
    for (int i = 0; i < kGroups; ++i) totals[s] += shared[s][i][lane];
  }
}

__global__ void __launch_bounds__(kColumns* kGroups)
    finish_moments_kernel(MomentsArgs args, int num_ctas) {
  const int64_t column =
      static_cast<int64_t>(blockIdx.x) * kColumns + static_cast<int>(threadIdx.x) % kColumns;
  if (args.rows == 0) {
    if (threadIdx.x >= kColumns || column >= args.n) return;
    args.mean[column] = args.running_mean[column];
    args.inv_std[column] = 1.0F / sqrtf(args.running_variance[column] + args.eps);
    return;
  }
  double totals[2];
  add_partials(totals, args.workspace, num_ctas, args.n, column);
  if (threadIdx.x >= kColumns || column >= args.n) return;
  const auto rows = static_cast<double>(args.rows);
  const double shift = totals[0] / rows;
  const double mean = static_cast<double>(load_one(args.x.data, args.x.type, column)) + shift;
  const double variance = fmax(totals[1] / rows - shift * shift, 0.0);
  args.mean[column] = static_cast<float>(mean);
  args.inv_std[column] = static_cast<float>(1.0 / sqrt(variance + static_cast<double>(args.eps)));
  const auto momentum = static_cast<double>(args.momentum);
  const double unbiased = variance * rows / (rows - 1);
  args.running_mean[column] = static_cast<float>(
      (1 - momentum) * static_cast<double>(args.running_mean[column]) + momentum * mean);
  args.running_variance[column] = static_cast<float>(
      (1 - momentum) * static_cast<double>(args.running_variance[column]) + momentum * unbiased);
}

template <bool kWide>
__global__ void __launch_bounds__(kThreads)
    batch_norm_kernel(NormArgs args, ColumnCut cut, bool is_wide) {
  const ColumnPlace place = column_place(cut, args.rows, args.n);
  float mean[kSpan];
  float scale[kSpan];
  float weight[kSpan];
  float bias[kSpan];
  load_columns(mean, args.mean, place);
  load_columns(scale, args.inv_std, place);
  load_columns(weight, args.weight, place);
  load_columns(bias, args.bias, place);
#pragma unroll
  for (int j = 0; j < kSpan; ++j) scale[j] *= weight[j];
  const FloatRows x[1] = {args.x};
  for_rows<kWide>(x, place, is_wide, [&](int64_t row, const float(&v)[1][kSpan]) {
    float out[kSpan];
#pragma unroll
    for (int j = 0; j < kSpan; ++j) out[j] = fmaf(v[0][j] - mean[j], scale[j], bias[j]);
    put_columns<kWide>(args.out, row, out, place, is_wide);
  });
}

template <bool kWide>
__global__ void __launch_bounds__(kThreads)
    grad_sums_kernel(NormArgs args, ColumnCut cut, bool is_wide) {
  const ColumnPlace place = column_place(cut, args.rows, args.n);
  float mean[kSpan];
  float inv_std[kSpan];
  load_columns(mean, args.mean, place);
  load_columns(inv_std, args.inv_std, place);
  float sums[2][kSpan] = {};
  const FloatRows inputs[2] = {args.x, args.dy};
  for_rows<kWide>(inputs, place, is_wide, [&](int64_t, const float(&v)[2][kSpan]) {
#pragma unroll
    for (int j = 0; j < kSpan; ++j) {
      sums[0][j] += v[1][j];
      sums[1][j] = fmaf(v[1][j], (v[0][j] - mean[j]) * inv_std[j], sums[1][j]);
    }
  });
  write_column_sums(sums, place, args.n, args.workspace);
}

/// Adds to the gradients; means [2][n] = Σ dy / N and Σ dy·x̂ / N.
__global__ void __launch_bounds__(kColumns* kGroups)
    finish_grads_kernel(NormArgs args, int num_ctas, float* means) {
  const int64_t column =
      static_cast<int64_t>(blockIdx.x) * kColumns + static_cast<int>(threadIdx.x) % kColumns;
  double totals[2];
  add_partials(totals, args.workspace, num_ctas, args.n, column);
  if (threadIdx.x >= kColumns || column >= args.n) return;
  args.bias_grad[column] += static_cast<float>(totals[0]);
  args.weight_grad[column] += static_cast<float>(totals[1]);
  const auto rows = static_cast<double>(args.rows);
  means[column] = static_cast<float>(totals[0] / rows);
  means[args.n + column] = static_cast<float>(totals[1] / rows);
}

template <bool kWide>
__global__ void __launch_bounds__(kThreads)
    batch_norm_backward_kernel(NormArgs args, ColumnCut cut, const float* means, bool is_wide) {
  const ColumnPlace place = column_place(cut, args.rows, args.n);
  // dx = a · dy + b · x + c.
  float a[kSpan];
  float b[kSpan];
  float c[kSpan];
  {
    float mean[kSpan];
    float inv_std[kSpan];
    float mean_grad[kSpan];
    load_columns(mean, args.mean, place);
    load_columns(inv_std, args.inv_std, place);
    load_columns(a, args.weight, place);
    load_columns(mean_grad, means, place);
    load_columns(b, means + args.n, place);
#pragma unroll
    for (int j = 0; j < kSpan; ++j) {
      a[j] *= inv_std[j];
      b[j] *= -a[j] * inv_std[j];
      c[j] = -fmaf(a[j], mean_grad[j], b[j] * mean[j]);
    }
  }
  const FloatRows inputs[2] = {args.x, args.dy};
  for_rows<kWide>(inputs, place, is_wide, [&](int64_t row, const float(&v)[2][kSpan]) {
    float out[kSpan];
#pragma unroll
    for (int j = 0; j < kSpan; ++j) out[j] = fmaf(a[j], v[1][j], fmaf(b[j], v[0][j], c[j]));
    put_columns<kWide>(args.out, row, out, place, is_wide);
  });
}

unsigned finish_blocks(int64_t n) { return static_cast<unsigned>((n + kColumns - 1) / kColumns); }

}  // namespace

void launch_batch_moments(const MomentsArgs& args, CUstream_st* stream) {
  if (args.n == 0) return;
  ColumnCut cut;
  if (args.rows > 0) {
    cut = column_cut(args.rows, args.n, kMaxColumnCtas);
    const auto kernel =
        is_wide_bf16({args.x}, args.n) ? moments_kernel<true> : moments_kernel<false>;
    kernel<<<column_grid(cut), kThreads, 0, stream>>>(args, cut, has_wide_rows(args.x));
    COMET_CUDA(cudaGetLastError());
  }
  finish_moments_kernel<<<finish_blocks(args.n), kColumns * kGroups, 0, stream>>>(args,
                                                                                  cut.num_ctas);
  COMET_CUDA(cudaGetLastError());
}

void launch_batch_norm(const NormArgs& args, CUstream_st* stream) {
  if (args.rows == 0 || args.n == 0) return;
  const ColumnCut cut = column_cut(args.rows, args.n, kManyCtas);
  const bool is_wide = has_wide_rows(args.out) && has_wide_rows(args.x);
  const auto kernel =
      is_wide_bf16({args.out, args.x}, args.n) ? batch_norm_kernel<true> : batch_norm_kernel<false>;
  kernel<<<column_grid(cut), kThreads, 0, stream>>>(args, cut, is_wide);
  COMET_CUDA(cudaGetLastError());
}

void launch_batch_norm_backward(const NormArgs& args, CUstream_st* stream) {
  if (args.rows == 0 || args.n == 0) return;
  const bool is_wide = has_wide_rows(args.out) && has_wide_rows(args.x) && has_wide_rows(args.dy);
  const ColumnCut cut = column_cut(args.rows, args.n, kMaxColumnCtas);
  float* means = args.workspace + column_workspace(args.rows, args.n, 2);
  const bool is_bf16 = is_wide_bf16({args.out, args.x, args.dy}, args.n);
  const auto sums = is_bf16 ? grad_sums_kernel<true> : grad_sums_kernel<false>;
  sums<<<column_grid(cut), kThreads, 0, stream>>>(args, cut, is_wide);
  COMET_CUDA(cudaGetLastError());
  finish_grads_kernel<<<finish_blocks(args.n), kColumns * kGroups, 0, stream>>>(args, cut.num_ctas,
                                                                                means);
  COMET_CUDA(cudaGetLastError());
  const ColumnCut many = column_cut(args.rows, args.n, kManyCtas);
  const auto gradient =
      is_bf16 ? batch_norm_backward_kernel<true> : batch_norm_backward_kernel<false>;
  gradient<<<column_grid(many), kThreads, 0, stream>>>(args, many, means, is_wide);
  COMET_CUDA(cudaGetLastError());
}

}  // namespace comet::ops_cuda
