#include "comet/formats/w8a8_int/w8a8_int.h"

#include <algorithm>
#include <cmath>

#include "comet/formats/cpu/quantize_row_of.h"
#include "comet/formats/float_input.h"
#include "comet/formats/w8a8/channel_codes.h"
#include "comet/ops/op_table.h"

namespace comet::formats {
namespace w8a8_int {
namespace {

constexpr CodeType kCodeType = CodeType::kInt;

int64_t padded(int64_t k) { return (k + kBlock - 1) / kBlock * kBlock; }

Result<std::shared_ptr<const FormatConfig>> parse_config(const Json& quantization_config,
                                                         const std::string& source) {
  return w8a8::parse_config(quantization_config, source);
}

Json manifest(const ManifestParts& /*parts*/) { return w8a8::manifest(w8a8_int_format()); }

Result<LinearWeight> bind(const LinearSpec& spec, const FormatConfig* config,
                          const TensorSource& tensors) {
  return w8a8::bind(w8a8_int_format(), kCodeType, spec, config, tensors);
}

Result<PackedLinear> pack(const QuantizedWeight& weight) {
  return w8a8::pack(w8a8_int_format(), kCodeType, weight);
}

Result<QuantizedWeight> unpack(const LinearWeight& weight) {
  return w8a8::unpack(kCodeType, weight);
}

Activation allocate_activation(Context& ctx, const LinearWeight& weight, int64_t rows) {
  const int64_t k = padded(weight.spec.k);
  Activation activation;
  activation.rows = rows;
  activation.parts[kCodes] = ctx.arena.alloc(DType::kI8, {rows, k});
  activation.parts[kScales] = ctx.arena.alloc(DType::kF32, {rows, 2});
  activation.parts[kBlockSums] = ctx.arena.alloc(DType::kI32, {rows, k / kBlock});
  return activation;
}

/// Codes and block sums of a row under a scale that the checkpoint gives; NaN and codes of 0 for a
/// row that has NaN or infinity.
float quantize_static(const float* x, int64_t k, float scale, int8_t* codes, int32_t* sums) {
  const int64_t k_padded = padded(k);
  std::fill_n(codes, k_padded, int8_t{0});
  std::fill_n(sums, k_padded / kBlock, 0);
  for (int64_t i = 0; i < k; ++i) {
    if (!std::isfinite(x[i])) {
      std::fill_n(codes, k_padded, int8_t{0});
      std::fill_n(sums, k_padded / kBlock, 0);
      return std::nanf("");
    }
    codes[i] = static_cast<int8_t>(std::nearbyint(std::clamp(x[i] / scale, -127.0F, 127.0F)));
    sums[i / kBlock] += codes[i];
  }
  return scale;
}

void quantize_rows(Context& ctx, const LinearWeight& weight, View<const float, 2> x,
                   const Activation& activation) {
  COMET_CHECK(x.size(1) == weight.spec.k && (x.strides[1] == 1 || weight.spec.k == 1),
              "{}: input rows of {} channels, not {}", weight.spec.name, x.size(1), weight.spec.k);
  const int64_t k = padded(weight.spec.k);
  cpu::RowPlan plan;
  plan.k = weight.spec.k;
  plan.blocks = k / kBlock;
  const cpu::QuantizeRow quantize_row = cpu::quantize_row_of(ctx.caps.cpu_isa);
  auto* scratch = ctx.arena.alloc_array<float>(ctx.pool.num_threads() * k);
  auto* codes = activation.parts[kCodes].data<int8_t>();
  auto* scales = activation.parts[kScales].data<float>();
  auto* sums = activation.parts[kBlockSums].data<int32_t>();
  const float input_scale = w8a8::input_scale_of(weight);
  ctx.pool.parallel_for(x.size(0), [&](int64_t row, int thread) {
    if (input_scale > 0) {
      const float scale = quantize_static(x.row(row), plan.k, input_scale, codes + row * k,
                                          sums + row * plan.blocks);
      scales[row * 2] = scales[row * 2 + 1] = scale;
      return;
    }
    quantize_row(plan, x.row(row), scratch + thread * k,
                 {codes + row * k, scales + row * 2, sums + row * plan.blocks});
  });
}

Activation input_from_rows(Context& ctx, const LinearWeight& weight, ConstRows x) {
  Activation activation = allocate_activation(ctx, weight, x.num_rows);
  const ArenaScope scope(ctx.arena);
  quantize_rows(ctx, weight, x.f32(), activation);
  return activation;
}

Activation input_from_norm(Context& ctx, const LinearWeight& weight, const NormInput& input) {
  Activation activation = allocate_activation(ctx, weight, input.x.size(0));
  const ArenaScope scope(ctx.arena);
  const Tensor rows = ctx.arena.alloc(DType::kF32, {input.x.size(0), input.x.size(1)});
  norm_rows(ctx, rows.view<float, 2>(), input);
  quantize_rows(ctx, weight, rows.view<const float, 2>(), activation);
  return activation;
}

Activation input_from_silu_mul(Context& ctx, const LinearWeight& weight,
                               const SiluMulInput& input) {
  Activation activation = allocate_activation(ctx, weight, input.gate.num_rows);
  const ArenaScope scope(ctx.arena);
  const Tensor rows = ctx.arena.alloc(DType::kF32, {input.gate.num_rows, input.gate.num_columns});
  ctx.ops.silu_mul(ctx, rows.view<float, 2>(), input.gate.f32(), input.up.f32());
  quantize_rows(ctx, weight, rows.view<const float, 2>(), activation);
  return activation;
}

void reference_linear(const LinearWeight& weight, const Activation& x, View<float, 2> out) {
  const int64_t k = weight.spec.k;
  const int64_t stride = x.parts[kCodes].size(1);
  const float* w_scale = w8a8::scales_of(weight);
  for (int64_t token = 0; token < x.rows; ++token) {
    const int8_t* codes = x.parts[kCodes].data<int8_t>() + token * stride;
    const float scale = x.parts[kScales].data<float>()[token * 2 + 1];
    int64_t column = 0;
    for (size_t part = 0; part < weight.spec.parts.size(); ++part) {
      const int8_t* w = weight.tensors[part].data<int8_t>();
      for (int64_t row = 0; row < weight.spec.part_rows[part]; ++row, ++column) {
        int64_t sum = 0;
        for (int64_t i = 0; i < k; ++i) sum += int64_t{w[row * k + i]} * codes[i];
        float y = w_scale[column] * (scale * static_cast<float>(static_cast<int32_t>(sum)));
        if (weight.spec.has_bias) y += float_element(w8a8::bias_of(weight, part), row);
        out(token, column) = y;
      }
    }
  }
}

}  // namespace
}  // namespace w8a8_int

const WeightFormat& w8a8_int_format() {
  static const WeightFormat format{
      .name = "w8a8-int",
      .version = 1,
      .parse_config = w8a8_int::parse_config,
      .bind = w8a8_int::bind,
      .pack = w8a8_int::pack,
      .unpack = w8a8_int::unpack,
      .reference_linear = w8a8_int::reference_linear,
      .cpu = {.input_from_rows = w8a8_int::input_from_rows,
              .input_from_norm = w8a8_int::input_from_norm,
              .input_from_silu_mul = w8a8_int::input_from_silu_mul,
              .kernels = w8a8_int::kernels(),
              .prepare = w8a8_int::prepare_packed},
      .cuda = w8a8_int_cuda_backend(),
      .manifest = w8a8_int::manifest,
      .quant_method = "compressed-tensors",
      .disk_format = "int-quantized",
  };
  return format;
}

}  // namespace comet::formats
