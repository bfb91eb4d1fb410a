// w8a8-fp8 on CUDA: producers' codes [rows, k rounded up to 128] with zeros behind k, scales
// [rows].
#include "comet/device/cuda/cublaslt.h"
#include "comet/device/cuda/cuda_resources.h"
#include "comet/formats/cuda/float_rows.h"
#include "comet/formats/w8a8/channel_codes.h"
#include "comet/formats/w8a8/cuda/device_weight.h"
#include "comet/formats/w8a8/cuda/gemm_sm90.h"
#include "comet/formats/w8a8_fp8/w8a8_fp8.h"

namespace comet::formats {
namespace w8a8_fp8 {
namespace {

Activation produce(Context& ctx, const LinearWeight& weight, const cuda::RowSource& source) {
  Activation activation;
  activation.rows = source.rows;
  activation.parts[kCodes] = w8a8::allocate_codes(ctx, weight, DType::kF8E4M3, source.rows);
  activation.parts[kScales] = ctx.arena.alloc(DType::kF32, {source.rows});
  if (source.rows == 0) return activation;
  cuda::CodeSink sink;
  sink.codes = activation.parts[kCodes].raw();
  sink.k_padded = activation.parts[kCodes].size(1);
  sink.scales = activation.parts[kScales].data<float>();
  sink.static_scale = w8a8::input_scale_of(weight);
  cuda::produce_e4m3(source, sink, ctx.cuda->stream);
  return activation;
}

Activation input_from_rows(Context& ctx, const LinearWeight& weight, ConstRows x) {
  return produce(ctx, weight, cuda::rows_source(weight, x));
}

Activation input_from_norm(Context& ctx, const LinearWeight& weight, const NormInput& input) {
  return produce(ctx, weight, cuda::norm_source(weight, input));
}

Activation input_from_silu_mul(Context& ctx, const LinearWeight& weight,
                               const SiluMulInput& input) {
  return produce(ctx, weight, cuda::silu_mul_source(weight, input));
}

w8a8::GemmArgs arguments(const LinearWeight& weight, const Activation& x, const Rows& out) {
  return w8a8::gemm_args(weight, x.parts[kCodes], x.parts[kScales].data<float>(), 1, out);
}

void run_mma(Context& ctx, const LinearWeight& weight, const Activation& x, Rows out) {
  w8a8::launch_gemm_mma(arguments(weight, x, out), ctx.cuda->stream);
}

void run_sm90(Context& ctx, const LinearWeight& weight, const Activation& x, Rows out) {
  const w8a8::GemmArgs args = arguments(weight, x, out);
  w8a8::run_gemm_sm90(args, w8a8::plan_gemm_sm90(args, ctx.cuda->num_sms), ctx.cuda->stream);
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
    run_sm90(ctx, weight, x, out);
    return;
  }
  const w8a8::GemmArgs args = arguments(weight, x, out);
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
    {"w8a8_fp8_mma", w8a8::runs_mma, w8a8::cost_mma_us, run_mma},
    {"w8a8_fp8_sm90", w8a8::runs_sm90, w8a8::cost_sm90_us, run_sm90},
    {"w8a8_fp8_sm90_cublaslt", runs_cublaslt, cost_cublaslt_us, run_cublaslt},
};

}  // namespace
}  // namespace w8a8_fp8

const FormatBackend& w8a8_fp8_cuda_backend() {
  static const FormatBackend backend{.input_from_rows = w8a8_fp8::input_from_rows,
                                     .input_from_norm = w8a8_fp8::input_from_norm,
                                     .input_from_silu_mul = w8a8_fp8::input_from_silu_mul,
                                     .kernels = w8a8_fp8::kKernels,
                                     .prepare = w8a8::prepare};
  return backend;
}

}  // namespace comet::formats
