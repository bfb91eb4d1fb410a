// w8a8-int on CUDA: producers' codes and scales lie as on the CPU (w8a8_int.h), without the sums of
// codes, which no product here needs.
#include "comet/device/cuda/cuda_resources.h"
#include "comet/formats/cuda/float_rows.h"
#include "comet/formats/w8a8/channel_codes.h"
#include "comet/formats/w8a8/cuda/device_weight.h"
#include "comet/formats/w8a8/cuda/gemm_sm90.h"
#include "comet/formats/w8a8_int/w8a8_int.h"

namespace comet::formats {
namespace w8a8_int {
namespace {

constexpr int32_t kScaleStride = 2;  // of scales [rows, 2], of which the second counts

Activation produce(Context& ctx, const LinearWeight& weight, const cuda::RowSource& source) {
  Activation activation;
  activation.rows = source.rows;
  activation.parts[kCodes] = w8a8::allocate_codes(ctx, weight, DType::kI8, source.rows);
  activation.parts[kScales] = ctx.arena.alloc(DType::kF32, {source.rows, kScaleStride});
  if (source.rows == 0) return activation;
  cuda::CodeSink sink;
  sink.codes = activation.parts[kCodes].raw();
  sink.k_padded = activation.parts[kCodes].size(1);
  sink.scales = activation.parts[kScales].data<float>() + 1;
  sink.scale_stride = kScaleStride;
  sink.static_scale = w8a8::input_scale_of(weight);
  cuda::produce_int8(source, sink, ctx.cuda->stream);
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
  return w8a8::gemm_args(weight, x.parts[kCodes], x.parts[kScales].data<float>() + 1, kScaleStride,
                         out);
}

void run_mma(Context& ctx, const LinearWeight& weight, const Activation& x, Rows out) {
  w8a8::launch_gemm_mma(arguments(weight, x, out), ctx.cuda->stream);
}

void run_sm90(Context& ctx, const LinearWeight& weight, const Activation& x, Rows out) {
  const w8a8::GemmArgs args = arguments(weight, x, out);
  w8a8::run_gemm_sm90(args, w8a8::plan_gemm_sm90(args, ctx.cuda->num_sms), ctx.cuda->stream);
}

constexpr LinearKernel kKernels[] = {
    {"w8a8_int_mma", w8a8::runs_mma, w8a8::cost_mma_us, run_mma},
    {"w8a8_int_sm90", w8a8::runs_sm90, w8a8::cost_sm90_us, run_sm90},
};

}  // namespace
}  // namespace w8a8_int

const FormatBackend& w8a8_int_cuda_backend() {
  static const FormatBackend backend{.input_from_rows = w8a8_int::input_from_rows,
                                     .input_from_norm = w8a8_int::input_from_norm,
                                     .input_from_silu_mul = w8a8_int::input_from_silu_mul,
                                     .kernels = w8a8_int::kKernels,
                                     .prepare = w8a8::prepare};
  return backend;
}

}  // namespace comet::formats
