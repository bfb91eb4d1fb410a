#include "comet/formats/w8a8/cuda/device_weight.h"

#include "comet/device/cuda/cuda_check.h"
#include "comet/device/cuda/cuda_resources.h"
#include "comet/device/cuda/upload.h"
#include "comet/formats/float_input.h"
#include "comet/formats/w8a8/channel_codes.h"
#include "comet/formats/w8a8/cuda/gemm_sm90.h"

namespace comet::formats::w8a8 {
namespace {

constexpr int64_t kRowAlignBytes = 16;  // tensor maps and 16-byte loads
constexpr double kBytesPerUs = 3e6;     // of memory; only the order of the rows counts

int64_t round_up(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

Tensor copy_codes(Context& ctx, const LinearWeight& weight) {
  const int64_t k = weight.spec.k;
  const int64_t stride = round_up(k, kRowAlignBytes);
  Tensor codes =
      allocate_tensor(ctx.memory, weight.tensors.front().dtype(), {weight.spec.n(), stride});
  cudaStream_t stream = ctx.cuda->stream;
  if (stride != k) {
    COMET_CUDA(cudaMemsetAsync(codes.raw(), 0, static_cast<size_t>(codes.num_bytes()), stream));
  }
  std::byte* out = codes.raw();
  for (size_t part = 0; part < weight.spec.parts.size(); ++part) {
    const int64_t rows = weight.spec.part_rows[part];
    const std::byte* from = weight.tensors[part].raw();
    if (stride == k) {
      upload(ctx.pool, *ctx.cuda, out, from, static_cast<size_t>(rows * k));
    } else {
      COMET_CUDA(cudaMemcpy2DAsync(out, static_cast<size_t>(stride), from, static_cast<size_t>(k),
                                   static_cast<size_t>(k), static_cast<size_t>(rows),
                                   cudaMemcpyDefault, stream));
    }
    out += rows * stride;
  }
  COMET_CUDA(cudaStreamSynchronize(stream));
  return codes;
}

/// The scale of row r at data[r · stride].
struct RowScales {
  float* data;
  int32_t stride;
};

RowScales row_scales_of(const Activation& x) {
  const Tensor& scales = x.parts[kInputScales];
  const int64_t per_row = scales.shape().rank() == 1 ? 1 : scales.size(1);
  return {scales.data<float>() + per_row - 1, static_cast<int32_t>(per_row)};
}

}  // namespace

Status prepare(Context& ctx, LinearWeight& weight) {
  std::vector<Tensor> prepared(kNumDeviceTensors);
  prepared[kDeviceCodes] = copy_codes(ctx, weight);
  const Shape channels{weight.spec.n()};
  prepared[kDeviceScales] =
      copy_to_device(ctx, static_cast<const ChannelMeta&>(*weight.meta).scales, channels);
  if (weight.spec.has_bias) {
    const std::span<const Tensor> biases(&bias_of(weight, 0), weight.spec.parts.size());
    prepared[kDeviceBias] = copy_to_device(ctx, float_elements(biases), channels);
  }
  weight.tensors = std::move(prepared);
  return {};
}

Activation produce(Context& ctx, const LinearWeight& weight, const cuda::RowSource& source,
                   DType codes, const Shape& scales) {
  Activation activation;
  activation.rows = source.rows;
  Tensor& row_codes = activation.parts[kInputCodes];
  row_codes = ctx.arena.alloc(codes, {source.rows, round_up(weight.spec.k, kBlock)});
  activation.parts[kInputScales] = ctx.arena.alloc(DType::kF32, scales);
  if (source.rows == 0) return activation;
  const RowScales row_scales = row_scales_of(activation);
  cuda::CodeSink sink;
  sink.codes = row_codes.raw();
  sink.k_padded = row_codes.size(1);
  sink.scales = row_scales.data;
  sink.scale_stride = row_scales.stride;
  sink.static_scale = input_scale_of(weight);
  const auto make = codes == DType::kI8 ? cuda::produce_int8 : cuda::produce_e4m3;
  make(source, sink, ctx.cuda->stream);
  return activation;
}

GemmArgs gemm_args(const LinearWeight& weight, const Activation& x, const Rows& out) {
  const Tensor& codes = x.parts[kInputCodes];
  const RowScales x_scales = row_scales_of(x);
  COMET_CHECK(out.num_rows == codes.size(0) && out.num_columns == weight.spec.n() &&
                  (out.dtype == DType::kF32 || out.dtype == DType::kBF16),
              "{}: output [{}, {}] {}", weight.spec.name, out.num_rows, out.num_columns,
              dtype_name(out.dtype));
  const Tensor& w = weight.tensors[kDeviceCodes];
  COMET_CHECK(codes.size(1) >= w.size(1) && codes.stride(0) % kRowAlignBytes == 0,
              "{}: codes of {} channels, {} apart", weight.spec.name, codes.size(1),
              codes.stride(0));
  GemmArgs args;
  args.x = codes.raw();
  args.w = w.raw();
  args.x_scale = x_scales.data;
  args.w_scale = weight.tensors[kDeviceScales].data<float>();
  args.bias = weight.spec.has_bias ? weight.tensors[kDeviceBias].data<float>() : nullptr;
  args.out = out.data;
  args.x_stride = codes.stride(0);
  args.w_stride = w.size(1);
  args.out_stride = out.stride;
  args.x_scale_stride = x_scales.stride;
  args.rows = static_cast<int32_t>(codes.size(0));
  args.n = static_cast<int32_t>(w.size(0));
  args.k = static_cast<int32_t>(weight.spec.k);
  args.is_e4m3 = w.dtype() == DType::kF8E4M3;
  args.is_bf16_out = out.dtype == DType::kBF16;
  return args;
}

void run_mma(Context& ctx, const LinearWeight& weight, const Activation& x, Rows out) {
  launch_gemm_mma(gemm_args(weight, x, out), ctx.cuda->stream);
}

void run_sm90(Context& ctx, const LinearWeight& weight, const Activation& x, Rows out) {
  const GemmArgs args = gemm_args(weight, x, out);
  run_gemm_sm90(args, plan_gemm_sm90(args, ctx.cuda->num_sms), ctx.cuda->stream);
}

bool runs_mma(const LinearWeight& /*weight*/, const Caps& caps) {
  return caps.kind == DeviceKind::kCuda && caps.sm >= 80;
}

bool runs_sm90(const LinearWeight& /*weight*/, const Caps& caps) {
  // sm_90a code runs on sm_90 alone.
  return caps.kind == DeviceKind::kCuda && caps.sm == 90;
}

double cost_mma_us(const LinearWeight& weight, const Caps& /*caps*/) {
  return 2 * static_cast<double>(weight.bytes()) / kBytesPerUs;
}

double cost_sm90_us(const LinearWeight& weight, const Caps& /*caps*/) {
  return static_cast<double>(weight.bytes()) / kBytesPerUs;
}

}  // namespace comet::formats::w8a8
