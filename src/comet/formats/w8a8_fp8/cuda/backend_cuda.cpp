// w8a8-fp8 on CUDA: producers' codes [rows, k rounded up to 128] with zeros behind k, scales
// [rows].
#include "comet/device/cuda/cublaslt.h"
#include "comet/device/cuda/cuda_resources.h"
#include "comet/formats/cuda/float_rows.h"
#include "comet/formats/cuda/linear_end.h"
#include "comet/formats/w8a8/channel_codes.h"
#include "comet/formats/w8a8/cuda/device_weight.h"
#include "comet/formats/w8a8/cuda/gemm_sm90.h"
#include "comet/formats/w8a8_fp8/w8a8_fp8.h"

namespace comet::formats {
namespace w8a8_fp8 {
namespace {

Activation produce(Context& ctx, const LinearWeight& weight, const cuda::RowSource& source) {
  return w8a8::produce(ctx, weight, source, DType::kF8E4M3, {source.rows});
}

/// From so many tokens on, cuBLASLt's larger tiles win: sooner where outputs are many, for then it
/// needs no split of K (docs/kernels/w8a8_cuda.md).
int64_t min_cublaslt_rows(const LinearSpec& spec) { return spec.n() >= spec.k ? 192 : 512; }

/// cuBLASLt with both vectors of scales; it has no bias of FP32 beside them.
bool runs_cublaslt(const LinearWeight& weight, const Caps& caps) {
  return w8a8::runs_sm90(weight, caps) && !weight.spec.has_bias && weight.spec.k % 16 == 0 &&
         weight.spec.n() % 16 == 0 && cublaslt_is_found();
}

double cost_cublaslt_us(const LinearWeight& weight, const Caps& caps) {
  return 0.9 * w8a8::cost_sm90_us(weight, caps);
}

/// Few tokens, and FP32 outputs, as run_sm90.
void run_cublaslt(Context& ctx, const LinearWeight& weight, const Activation& x, Rows out) {
  if (x.rows < min_cublaslt_rows(weight.spec) || out.dtype != DType::kBF16 ||
      reinterpret_cast<uintptr_t>(out.data) % 16 != 0) {
    w8a8::run_sm90(ctx, weight, x, out);
    return;
  }
  const w8a8::GemmArgs args = w8a8::gemm_args(weight, x, out);
  MatmulDesc desc;
  desc.in = DType::kF8E4M3;
  desc.out = out.dtype;
  desc.rows = args.rows;
  desc.n = args.n;
  desc.k = args.k;
  desc.x_stride = args.x_stride;
  desc.w_stride = args.w_stride;
  desc.out_stride = args.out_stride;
  desc.scale = MatmulScale::kOuter;
  run_matmul(
      *cublaslt_of(*ctx.cuda).value(), desc,
      {.x = args.x, .w = args.w, .out = args.out, .x_scale = args.x_scale, .w_scale = args.w_scale},
      ctx.cuda->stream);
}

constexpr LinearKernel kKernels[] = {
    {.name = "w8a8_fp8_mma",
     .supports = w8a8::runs_mma,
     .cost_us = w8a8::cost_mma_us,
     .run = w8a8::run_mma,
     .run_with = cuda::run_with_end<w8a8::run_mma>},
    {.name = "w8a8_fp8_sm90",
     .supports = w8a8::runs_sm90,
     .cost_us = w8a8::cost_sm90_us,
     .run = w8a8::run_sm90,
     .run_with = cuda::run_with_end<w8a8::run_sm90>},
    {.name = "w8a8_fp8_sm90_cublaslt",
     .supports = runs_cublaslt,
     .cost_us = cost_cublaslt_us,
     .run = run_cublaslt,
     .run_with = cuda::run_with_end<run_cublaslt>},
};

}  // namespace
}  // namespace w8a8_fp8

const FormatBackend& w8a8_fp8_cuda_backend() {
  static const FormatBackend backend =
      cuda::backend_of<w8a8_fp8::produce>(w8a8_fp8::kKernels, w8a8::prepare);
  return backend;
}

}  // namespace comet::formats
