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

__global__ void __launch_bounds__(kThreads)
    layer_scale_kernel(LayerScaleArgs args, ColumnCut cut, bool is_wide) {
  const ColumnPlace place = column_place(cut, args.rows, args.n);
  float gamma[kSpan];
  load_columns(gamma, args.gamma, place);
#pragma unroll 2
  for (int64_t row = place.row; row < place.end; row += place.num_lanes) {
    const float keep = keep_of(args.keep, args.rows_per_image, row);
    float x[kSpan];
    float branch[kSpan];
    load_span(x, args.x.data, args.x.type, row * args.x.stride + place.column, place.count,
              is_wide);
    load_span(branch, args.branch.data, args.branch.type, row * args.branch.stride + place.column,
              place.count, is_wide);
#pragma unroll
    for (int j = 0; j < kSpan; ++j) x[j] = fmaf(keep * gamma[j], branch[j], x[j]);
    store_span(args.out.data, args.out.type, row * args.out.stride + place.column, x, place.count,
               is_wide);
  }
}

__global__ void __launch_bounds__(kThreads)
    layer_scale_backward_kernel(LayerScaleBackwardArgs args, ColumnCut cut, bool is_wide) {
  const ColumnPlace place = column_place(cut, args.rows, args.n);
  float gamma[kSpan];
  load_columns(gamma, args.gamma, place);
  float sums[1][kSpan] = {};
#pragma unroll 2
  for (int64_t row = place.row; row < place.end; row += place.num_lanes) {
    const float keep = keep_of(args.keep, args.rows_per_image, row);
    float dy[kSpan];
    float branch[kSpan];
    load_span(dy, args.dy.data, args.dy.type, row * args.dy.stride + place.column, place.count,
              is_wide);
    load_span(branch, args.branch.data, args.branch.type, row * args.branch.stride + place.column,
              place.count, is_wide);
#pragma unroll
    for (int j = 0; j < kSpan; ++j) {
      dy[j] *= keep;
      sums[0][j] = fmaf(dy[j], branch[j], sums[0][j]);
      dy[j] *= gamma[j];
    }
    store_span(args.dbranch.data, args.dbranch.type, row * args.dbranch.stride + place.column, dy,
               place.count, is_wide);
  }
  write_column_sums(sums, place, args.n, args.workspace);
}

}  // namespace

void launch_layer_scale(const LayerScaleArgs& args, CUstream_st* stream) {
  if (args.rows == 0 || args.n == 0) return;
  const ColumnCut cut = column_cut(args.rows, args.n, kManyCtas);
  const bool is_wide =
      has_wide_rows(args.out) && has_wide_rows(args.x) && has_wide_rows(args.branch);
  layer_scale_kernel<<<column_grid(cut), kThreads, 0, stream>>>(args, cut, is_wide);
  COMET_CUDA(cudaGetLastError());
}

void launch_layer_scale_backward(const LayerScaleBackwardArgs& args, CUstream_st* stream) {
  if (args.rows == 0 || args.n == 0) return;
  const ColumnCut cut = column_cut(args.rows, args.n, kMaxColumnCtas);
  const bool is_wide =
      has_wide_rows(args.dbranch) && has_wide_rows(args.dy) && has_wide_rows(args.branch);
  layer_scale_backward_kernel<<<column_grid(cut), kThreads, 0, stream>>>(args, cut, is_wide);
  COMET_CUDA(cudaGetLastError());
  launch_sum_partials({{args.dgamma, args.n}}, args.workspace, cut.num_ctas, stream);
}

}  // namespace comet::ops_cuda
