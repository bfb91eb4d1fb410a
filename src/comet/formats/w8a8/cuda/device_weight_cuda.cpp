#include "comet/formats/w8a8/cuda/device_weight.h"

#include "comet/device/cuda/cuda_check.h"
#include "comet/device/cuda/cuda_resources.h"
#include "comet/formats/float_input.h"
#include "comet/formats/w8a8/channel_codes.h"

namespace comet::formats::w8a8 {
namespace {

constexpr int64_t kRowAlignBytes = 16;  // tensor maps and 16-byte loads
constexpr double kBytesPerUs = 3e6;     // of memory; only the order of the rows counts

int64_t round_up(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

Tensor allocate(Context& ctx, DType dtype, const Shape& shape) {
  const auto bytes = static_cast<size_t>(shape.num_elements() * dtype_bytes(dtype));
  return {std::make_shared<Storage>(ctx.memory, bytes), 0, dtype, shape};
}

Tensor copy_floats(Context& ctx, const std::vector<float>& values) {
  Tensor out = allocate(ctx, DType::kF32, Shape{static_cast<int64_t>(values.size())});
  COMET_CUDA(cudaMemcpyAsync(out.raw(), values.data(), values.size() * sizeof(float),
                             cudaMemcpyDefault, ctx.cuda->stream));
  COMET_CUDA(cudaStreamSynchronize(ctx.cuda->stream));
  return out;
}

Tensor copy_codes(Context& ctx, const LinearWeight& weight) {
  const int64_t k = weight.spec.k;
  const int64_t stride = round_up(k, kRowAlignBytes);
  Tensor codes = allocate(ctx, weight.tensors.front().dtype(), Shape{weight.spec.n(), stride});
  cudaStream_t stream = ctx.cuda->stream;
  if (stride != k) {
    COMET_CUDA(cudaMemsetAsync(codes.raw(), 0, static_cast<size_t>(codes.num_bytes()), stream));
  }
  std::byte* out = codes.raw();
  for (size_t part = 0; part < weight.spec.parts.size(); ++part) {
    const int64_t rows = weight.spec.part_rows[part];
    COMET_CUDA(cudaMemcpy2DAsync(out, static_cast<size_t>(stride), weight.tensors[part].raw(),
                                 static_cast<size_t>(k), static_cast<size_t>(k),
                                 static_cast<size_t>(rows), cudaMemcpyDefault, stream));
    out += rows * stride;
  }
  COMET_CUDA(cudaStreamSynchronize(stream));
  return codes;
}

std::vector<float> biases(const LinearWeight& weight) {
  std::vector<float> values;
  for (size_t part = 0; part < weight.spec.parts.size(); ++part) {
    for (int64_t i = 0; i < weight.spec.part_rows[part]; ++i) {
      values.push_back(float_element(bias_of(weight, part), i));
    }
  }
  return values;
}

}  // namespace

Status prepare(Context& ctx, LinearWeight& weight) {
  std::vector<Tensor> prepared(kNumDeviceTensors);
  prepared[kDeviceCodes] = copy_codes(ctx, weight);
  prepared[kDeviceScales] = copy_floats(ctx, static_cast<const ChannelMeta&>(*weight.meta).scales);
  if (weight.spec.has_bias) prepared[kDeviceBias] = copy_floats(ctx, biases(weight));
  weight.tensors = std::move(prepared);
  return {};
}

Tensor allocate_codes(Context& ctx, const LinearWeight& weight, DType dtype, int64_t rows) {
  return ctx.arena.alloc(dtype, {rows, round_up(weight.spec.k, kBlock)});
}

GemmArgs gemm_args(const LinearWeight& weight, const Tensor& codes, const float* x_scale,
                   int32_t x_scale_stride, const Rows& out) {
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
  args.x_scale = x_scale;
  args.w_scale = weight.tensors[kDeviceScales].data<float>();
  args.bias = weight.spec.has_bias ? weight.tensors[kDeviceBias].data<float>() : nullptr;
  args.out = out.data;
  args.x_stride = codes.stride(0);
  args.w_stride = w.size(1);
  args.out_stride = out.stride;
  args.x_scale_stride = x_scale_stride;
  args.rows = static_cast<int32_t>(codes.size(0));
  args.n = static_cast<int32_t>(w.size(0));
  args.k = static_cast<int32_t>(weight.spec.k);
  args.is_e4m3 = w.dtype() == DType::kF8E4M3;
  args.is_bf16_out = out.dtype == DType::kBF16;
  return args;
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
