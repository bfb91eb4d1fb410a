// sums [n] += over the rows of x [rows, n].
// Grid: columns.cuh; then sum_partials.cu. Numerics: FP32, a thread's rows in order, lanes and CTAs
// in order. Floor: the bytes of x at copy rate (half of a copy's).
#include <cuda_runtime_api.h>

#include "comet/device/cuda/cuda_check.h"
#include "comet/ops/cuda/columns.cuh"
#include "comet/ops/cuda/image_launches.h"
#include "comet/ops/cuda/training_launches.h"

namespace comet::ops_cuda {
namespace {

template <bool kWide>
__global__ void __launch_bounds__(kThreads)
    column_sums_kernel(ColumnSumsArgs args, ColumnCut cut, bool is_wide) {
  const ColumnPlace place = column_place(cut, args.rows, args.n);
  float sums[1][kSpan] = {};
  const FloatRows x[1] = {args.x};
  for_rows<kWide>(x, place, is_wide, [&](int64_t, const float(&v)[1][kSpan]) {
#pragma unroll
    for (int j = 0; j < kSpan; ++j) sums[0][j] += v[0][j];
  });
  write_column_sums(sums, place, args.n, args.workspace);
}

}  // namespace

size_t column_workspace(int64_t rows, int64_t n, int num_sums) {
  if (rows == 0 || n == 0) return 0;
  const ColumnCut cut = column_cut(rows, n, kMaxColumnCtas);
  return static_cast<size_t>(cut.num_ctas) * static_cast<size_t>(num_sums) * static_cast<size_t>(n);
}

void launch_column_sums(const ColumnSumsArgs& args, CUstream_st* stream) {
  if (args.rows == 0 || args.n == 0) return;
  const ColumnCut cut = column_cut(args.rows, args.n, kMaxColumnCtas);
  const auto kernel =
      is_wide_bf16({args.x}, args.n) ? column_sums_kernel<true> : column_sums_kernel<false>;
  kernel<<<column_grid(cut), kThreads, 0, stream>>>(args, cut, has_wide_rows(args.x));
  COMET_CUDA(cudaGetLastError());
  launch_sum_partials({{args.sums, args.n}}, args.workspace, cut.num_ctas, stream);
}

}  // namespace comet::ops_cuda
