// The end of a residual block. Forward: out = x + keep[image] · gamma ∘ branch. Gradient: dbranch =
// keep[image] · gamma ∘ dy, dgamma += Σ keep[image] · dy ∘ branch in the same pass.
// Grid: columns.cuh; dgamma's partials are added by sum_partials.cu. Floors: 3 times the bytes of x
// at copy rate each.
#include <cuda_runtime_api.h>

#include "comet/device/cuda/cuda_check.h"
#include "comet/ops/cuda/columns.cuh"
#include "comet/ops/cuda/image_launches.h"
#include "comet/ops/cuda/training_launches.h"

namespace comet::ops_cuda {
namespace {

__device__ __forceinline__ float keep_of(const float* keep, int64_t rows_per_image, int64_t row) {
  return keep == nullptr
             ? 1.0F
             : __ldg(keep + static_cast<uint32_t>(row) / static_cast<uint32_t>(rows_per_image));
}

template <bool kWide>
__global__ void __launch_bounds__(kThreads)
    layer_scale_kernel(LayerScaleArgs args, ColumnCut cut, bool is_wide) {
  const ColumnPlace place = column_place(cut, args.rows, args.n);
  float gamma[kSpan];
  load_columns(gamma, args.gamma, place);
  const FloatRows inputs[2] = {args.x, args.branch};
  for_rows<kWide>(inputs, place, is_wide, [&](int64_t row, const float(&v)[2][kSpan]) {
    const float keep = keep_of(args.keep, args.rows_per_image, row);
    float out[kSpan];
#pragma unroll
    for (int j = 0; j < kSpan; ++j) out[j] = fmaf(keep * gamma[j], v[1][j], v[0][j]);
    put_columns<kWide>(args.out, row, out, place, is_wide);
  });
}

template <bool kWide>
__global__ void __launch_bounds__(kThreads)
    layer_scale_backward_kernel(LayerScaleBackwardArgs args, ColumnCut cut, bool is_wide) {
  const ColumnPlace place = column_place(cut, args.rows, args.n);
  float gamma[kSpan];
  load_columns(gamma, args.gamma, place);
  float sums[1][kSpan] = {};
  const FloatRows inputs[2] = {args.dy, args.branch};
  for_rows<kWide>(inputs, place, is_wide, [&](int64_t row, const float(&v)[2][kSpan]) {
    const float keep = keep_of(args.keep, args.rows_per_image, row);
    float out[kSpan];
#pragma unroll
    for (int j = 0; j < kSpan; ++j) {
      const float dy = v[0][j] * keep;
      sums[0][j] = fmaf(dy, v[1][j], sums[0][j]);
      out[j] = dy * gamma[j];
    }
    put_columns<kWide>(args.dbranch, row, out, place, is_wide);
  });
  write_column_sums(sums, place, args.n, args.workspace);
}

}  // namespace

void launch_layer_scale(const LayerScaleArgs& args, CUstream_st* stream) {
  if (args.rows == 0 || args.n == 0) return;
  const ColumnCut cut = column_cut(args.rows, args.n, kManyCtas);
  const bool is_wide =
      has_wide_rows(args.out) && has_wide_rows(args.x) && has_wide_rows(args.branch);
  const auto kernel = is_wide_bf16({args.out, args.x, args.branch}, args.n)
                          ? layer_scale_kernel<true>
                          : layer_scale_kernel<false>;
  kernel<<<column_grid(cut), kThreads, 0, stream>>>(args, cut, is_wide);
  COMET_CUDA(cudaGetLastError());
}

void launch_layer_scale_backward(const LayerScaleBackwardArgs& args, CUstream_st* stream) {
  if (args.rows == 0 || args.n == 0) return;
  const ColumnCut cut = column_cut(args.rows, args.n, kMaxColumnCtas);
  const bool is_wide =
      has_wide_rows(args.dbranch) && has_wide_rows(args.dy) && has_wide_rows(args.branch);
  const auto kernel = is_wide_bf16({args.dbranch, args.dy, args.branch}, args.n)
                          ? layer_scale_backward_kernel<true>
                          : layer_scale_backward_kernel<false>;
  kernel<<<column_grid(cut), kThreads, 0, stream>>>(args, cut, is_wide);
  COMET_CUDA(cudaGetLastError());
  launch_sum_partials({{args.dgamma, args.n}}, args.workspace, cut.num_ctas, stream);
}

}  // namespace comet::ops_cuda
