// out [rows, n] = x [rows, n] in out's type.
// Grid: one thread per span of 8 elements. Numerics: rounded to nearest even; FP16 beyond 65,504 is
// infinite. Floor: the bytes of both at copy rate.
#include <cuda_runtime_api.h>

#include "comet/device/cuda/cuda_check.h"
#include "comet/ops/cuda/vectors.cuh"

namespace comet::ops_cuda {
namespace {

__global__ void __launch_bounds__(kThreads) convert_kernel(ConvertArgs args, bool is_wide) {
  const Span span = span_of_thread(args.rows, args.n);
  if (span.count == 0) return;
  float v[kSpan];
  load_span(v, args.x.data, args.x.type, span.row * args.x.stride + span.column, span.count,
            is_wide);
  store_span(args.out.data, args.out.type, span.row * args.out.stride + span.column, v, span.count,
             is_wide);
}

}  // namespace

void launch_convert(const ConvertArgs& args, CUstream_st* stream) {
  if (args.rows == 0 || args.n == 0) return;
  const bool is_wide = has_wide_rows(args.out) && has_wide_rows(args.x);
  convert_kernel<<<span_blocks(args.rows, args.n), kThreads, 0, stream>>>(args, is_wide);
  COMET_CUDA(cudaGetLastError());
}

}  // namespace comet::ops_cuda
