// out [rows, n] = x · Φ(x); dx = dy · (Φ(x) + x·φ(x)).
// Grid: one thread per span of 8 elements. Numerics: gelu.cuh. Floor: the bytes read and written at
// copy rate; about 15 instructions an element, no special function.
#include <cuda_runtime_api.h>

#include "comet/device/cuda/cuda_check.h"
#include "comet/ops/cuda/image_launches.h"
#include "comet/ops/cuda/vectors.cuh"
#include "comet/ops/gelu/cuda/gelu.cuh"

namespace comet::ops_cuda {
namespace {

__global__ void __launch_bounds__(kThreads)
    gelu_kernel(FloatRows out, FloatRows x, int64_t rows, int64_t n, bool is_wide) {
  const Span span = span_of_thread(rows, n);
  if (span.count == 0) return;
  float v[kSpan];
  load_span(v, x.data, x.type, span.row * x.stride + span.column, span.count, is_wide);
#pragma unroll
  for (int j = 0; j < kSpan; ++j) v[j] = gelu_of(v[j]);
  store_span(out.data, out.type, span.row * out.stride + span.column, v, span.count, is_wide);
}

__global__ void __launch_bounds__(kThreads)
    gelu_backward_kernel(GeluBackwardArgs args, bool is_wide) {
  const Span span = span_of_thread(args.rows, args.n);
  if (span.count == 0) return;
  float x[kSpan];
  float dy[kSpan];
  load_span(x, args.x.data, args.x.type, span.row * args.x.stride + span.column, span.count,
            is_wide);
  load_span(dy, args.dy.data, args.dy.type, span.row * args.dy.stride + span.column, span.count,
            is_wide);
#pragma unroll
  for (int j = 0; j < kSpan; ++j) dy[j] *= gelu_slope(x[j]);
  store_span(args.dx.data, args.dx.type, span.row * args.dx.stride + span.column, dy, span.count,
             is_wide);
}

}  // namespace

void launch_gelu(const FloatRows& out, const FloatRows& x, int64_t rows, int64_t n,
                 CUstream_st* stream) {
  if (rows == 0 || n == 0) return;
  const bool is_wide = has_wide_rows(out) && has_wide_rows(x);
  gelu_kernel<<<span_blocks(rows, n), kThreads, 0, stream>>>(out, x, rows, n, is_wide);
  COMET_CUDA(cudaGetLastError());
}

void launch_gelu_backward(const GeluBackwardArgs& args, CUstream_st* stream) {
  if (args.rows == 0 || args.n == 0) return;
  const bool is_wide = has_wide_rows(args.dx) && has_wide_rows(args.dy) && has_wide_rows(args.x);
  gelu_backward_kernel<<<span_blocks(args.rows, args.n), kThreads, 0, stream>>>(args, is_wide);
  COMET_CUDA(cudaGetLastError());
}

}  // namespace comet::ops_cuda
