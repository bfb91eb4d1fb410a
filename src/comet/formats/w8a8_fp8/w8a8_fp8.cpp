#include "comet/formats/w8a8_fp8/w8a8_fp8.h"

#include <algorithm>
#include <cmath>

#include "comet/formats/float_input.h"
#include "comet/formats/w8a8/channel_codes.h"
#include "comet/formats/w8a8_fp8/cpu/quantize_row.h"
#include "comet/ops/op_table.h"
#include "comet/tensor/float8.h"

namespace comet::formats {
namespace w8a8_fp8 {
namespace {

constexpr CodeType kCodeType = CodeType::kE4M3;

Result<std::shared_ptr<const FormatConfig>> parse_config(const Json& quantization_config,
                                                         const std::string& source) {
  return w8a8::parse_config(quantization_config, source);
}

Json manifest(const ManifestParts& /*parts*/) { return w8a8::manifest(w8a8_fp8_format()); }

Result<LinearWeight> bind(const LinearSpec& spec, const FormatConfig* config,
                          const TensorSource& tensors) {
  return w8a8::bind(w8a8_fp8_format(), kCodeType, spec, config, tensors);
}

Result<PackedLinear> pack(const QuantizedWeight& weight) {
  return w8a8::pack(w8a8_fp8_format(), kCodeType, weight);
}

Result<QuantizedWeight> unpack(const LinearWeight& weight) {
  return w8a8::unpack(kCodeType, weight);
}

Activation allocate_activation(Context& ctx, const LinearWeight& weight, int64_t rows,
                               int64_t channels) {
  COMET_CHECK(channels == weight.spec.k, "{}: input rows of {} channels, not {}", weight.spec.name,
              channels, weight.spec.k);
  Activation activation;
  activation.rows = rows;
  activation.parts[kCodes] = ctx.arena.alloc(DType::kF8E4M3, {rows, channels});
  activation.parts[kScales] = ctx.arena.alloc(DType::kF32, {rows});
  return activation;
}

cpu::QuantizeRow quantize_row_of(CpuIsa isa) {
  if (isa == CpuIsa::kPortable) return cpu::quantize_row_portable;
  return isa == CpuIsa::kAvx2 ? cpu::quantize_row_avx2 : cpu::quantize_row_avx512;
}

/// Codes of a row under a scale that the checkpoint gives; NaN and codes of 0 for a row that has
/// NaN or infinity.
float quantize_static(const float* x, int64_t k, float scale, uint8_t* codes) {
  bool finite = true;
  for (int64_t i = 0; i < k; ++i) {
    finite = finite && std::isfinite(x[i]);
    codes[i] = to_float8_e4m3(x[i] / scale).bits;
  }
  if (finite) return scale;
  std::fill_n(codes, k, uint8_t{0});
  return std::nanf("");
}

void quantize_rows(Context& ctx, const LinearWeight& weight, View<const float, 2> x,
                   const Activation& activation) {
  const int64_t k = x.size(1);
  COMET_CHECK(x.strides[1] == 1 || k == 1, "channels of a row lie {} apart", x.strides[1]);
  const cpu::QuantizeRow quantize_row = quantize_row_of(ctx.caps.cpu_isa);
  auto* codes = reinterpret_cast<uint8_t*>(activation.parts[kCodes].raw());
  auto* scales = activation.parts[kScales].data<float>();
  const float input_scale = w8a8::input_scale_of(weight);
  ctx.pool.parallel_for(x.size(0), [&](int64_t row, int) {
    if (input_scale > 0) {
      scales[row] = quantize_static(x.row(row), k, input_scale, codes + row * k);
      return;
    }
    scales[row] = quantize_row(x.row(row), k, codes + row * k);
  });
}

Activation input_from_rows(Context& ctx, const LinearWeight& weight, ConstRows x) {
  const Activation activation = allocate_activation(ctx, weight, x.num_rows, x.num_columns);
  quantize_rows(ctx, weight, x.f32(), activation);
  return activation;
}

Activation input_from_norm(Context& ctx, const LinearWeight& weight, const NormInput& input) {
  const Shape shape{input.x.size(0), input.x.size(1)};
  const Activation activation = allocate_activation(ctx, weight, shape[0], shape[1]);
  const ArenaScope scope(ctx.arena);
  const Tensor rows = ctx.arena.alloc(DType::kF32, shape);
  norm_rows(ctx, rows.view<float, 2>(), input);
  quantize_rows(ctx, weight, rows.view<const float, 2>(), activation);
  return activation;
}

Activation input_from_silu_mul(Context& ctx, const LinearWeight& weight,
                               const SiluMulInput& input) {
  const Shape shape{input.gate.num_rows, input.gate.num_columns};
  const Activation activation = allocate_activation(ctx, weight, shape[0], shape[1]);
  const ArenaScope scope(ctx.arena);
  const Tensor rows = ctx.arena.alloc(DType::kF32, shape);
  ctx.ops.silu_mul(ctx, rows.view<float, 2>(), input.gate.f32(), input.up.f32());
  quantize_rows(ctx, weight, rows.view<const float, 2>(), activation);
  return activation;
}

/// y = s_w · (s_x · Σ w·x) from the definition; every product is exact in FP64.
void reference_linear(const LinearWeight& weight, const Activation& x, View<float, 2> out) {
  const int64_t k = weight.spec.k;
  const float* w_scale = w8a8::scales_of(weight);
  for (int64_t token = 0; token < x.rows; ++token) {
    const Float8E4M3* codes = x.parts[kCodes].data<Float8E4M3>() + token * k;
    const float scale = x.parts[kScales].data<float>()[token];
    int64_t column = 0;
    for (size_t part = 0; part < weight.spec.parts.size(); ++part) {
      const Float8E4M3* w = weight.tensors[part].data<Float8E4M3>();
      for (int64_t row = 0; row < weight.spec.part_rows[part]; ++row, ++column) {
        double sum = 0;
        for (int64_t i = 0; i < k; ++i) {
          sum += double{to_float(w[row * k + i])} * double{to_float(codes[i])};
        }
        float y = w_scale[column] * (scale * static_cast<float>(sum));
        if (weight.spec.has_bias) y += float_element(w8a8::bias_of(weight, part), row);
        out(token, column) = y;
      }
    }
  }
}

}  // namespace
}  // namespace w8a8_fp8

const WeightFormat& w8a8_fp8_format() {
  static const WeightFormat format{
      .name = "w8a8-fp8",
      .version = 1,
      .parse_config = w8a8_fp8::parse_config,
      .bind = w8a8_fp8::bind,
      .pack = w8a8_fp8::pack,
      .unpack = w8a8_fp8::unpack,
      .reference_linear = w8a8_fp8::reference_linear,
      .cpu = {.input_from_rows = w8a8_fp8::input_from_rows,
              .input_from_norm = w8a8_fp8::input_from_norm,
              .input_from_silu_mul = w8a8_fp8::input_from_silu_mul,
              .kernels = w8a8_fp8::kernels()},
      .cuda = w8a8_fp8_cuda_backend(),
      .manifest = w8a8_fp8::manifest,
      .quant_method = "compressed-tensors",
      .disk_format = "float-quantized",
  };
  return format;
}

}  // namespace comet::formats
