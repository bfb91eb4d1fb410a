// Rows by index: out [rows, n] = x[row_idxs] + delta[row_idxs]; delta is optional.
// Grid: one thread per span of 8 elements of out. Numerics: one FP32 sum.
// Floor: rows · n · (8 + bytes of delta's type) at copy rate; decode, 256 rows of 4,096: 10 MB, 3
// µs.
#include <cuda_runtime_api.h>

#include "comet/device/cuda/cuda_check.h"
#include "comet/ops/cuda/vectors.cuh"

namespace comet::ops_cuda {
namespace {

__global__ void __launch_bounds__(kThreads) gather_rows_kernel(GatherRowsArgs args, bool is_wide) {
  const Span span = span_of_thread(args.rows, args.n);
  if (span.count == 0) return;
  const int64_t row = args.row_idxs[span.row];
  float v[kSpan];
  if (row >= 0 && row < args.num_source_rows) {
    load_span(v, args.x.data, args.x.type, row * args.x.stride + span.column, span.count, is_wide);
    if (args.delta.data != nullptr) {
      float delta[kSpan];
      load_span(delta, args.delta.data, args.delta.type, row * args.delta.stride + span.column,
                span.count, is_wide);
#pragma unroll
      for (int j = 0; j < kSpan; ++j) v[j] += delta[j];
    }
  } else {
#pragma unroll
    for (float& x : v) x = __int_as_float(0x7FC00000);
  }
  store_span(args.out.data, args.out.type, span.row * args.out.stride + span.column, v, span.count,
             is_wide);
}

}  // namespace

void launch_gather_rows(const GatherRowsArgs& args, CUstream_st* stream) {
  if (args.rows == 0 || args.n == 0) return;
  const bool is_wide =
      has_wide_rows(args.out) && has_wide_rows(args.x) && has_wide_rows(args.delta);
  gather_rows_kernel<<<span_blocks(args.rows, args.n), kThreads, 0, stream>>>(args, is_wide);
  COMET_CUDA(cudaGetLastError());
}

}  // namespace comet::ops_cuda
