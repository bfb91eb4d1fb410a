#include "comet/formats/w8a8_int/w8a8_int.h"

#include <algorithm>
#include <cmath>

#include "comet/formats/cpu/quantize_row_of.h"
#include "comet/ops/op_table.h"

namespace comet::formats {
namespace w8a8_int {
namespace {

constexpr int64_t kMaxChannels = 131072;  // headroom of int32 sums

int64_t padded(int64_t k) { return (k + kBlock - 1) / kBlock * kBlock; }

Result<std::shared_ptr<const FormatConfig>> parse_config(const Json& quantization_config,
                                                         const std::string& source) {
  if (!quantization_config.is_null()) {
    return make_error(ErrorCode::kUnsupported,
                      "{}: whole models in w8a8-int cannot be loaded yet; quantize the original "
                      "with `comet quantize MODEL -o OUT --format w4ax`",
                      source);
  }
  return std::make_shared<const FormatConfig>();
}

Result<LinearWeight> bind(const LinearSpec& spec, const FormatConfig* /*config*/,
                          const TensorSource& tensors) {
  if (spec.k < 1 || spec.k > kMaxChannels) {
    return make_error(ErrorCode::kUnsupported, "'{}': k = {}; w8a8-int holds 1 to {} channels",
                      spec.name, spec.k, kMaxChannels);
  }
  LinearWeight weight{&w8a8_int_format(), spec, {}, nullptr, nullptr};
  const std::array<DType, 1> codes{DType::kI8};
  const std::array<DType, 1> scales{DType::kF32};
  const std::array<DType, 3> floats{DType::kF32, DType::kBF16, DType::kF16};
  const auto add = [&](const char* suffix, std::span<const DType> dtypes, bool matrix) -> Status {
    for (size_t i = 0; i < spec.parts.size(); ++i) {
      const Shape shape = matrix ? Shape{spec.part_rows[i], spec.k} : Shape{spec.part_rows[i]};
      auto tensor = tensors.get(spec.prefix + spec.parts[i] + suffix, dtypes, shape);
      if (!tensor) return tensor.error();
      weight.tensors.push_back(std::move(*tensor));
    }
    return {};
  };
  if (const Status s = add(".weight", codes, true); !s) return s.error();
  if (const Status s = add(".weight_scale", scales, false); !s) return s.error();
  if (spec.has_bias) {
    if (const Status s = add(".bias", floats, false); !s) return s.error();
  }
  return weight;
}

Tensor allocate(DType dtype, const Shape& shape) {
  const auto bytes = static_cast<size_t>(shape.num_elements() * dtype_bytes(dtype));
  return {std::make_shared<Storage>(host_allocator(), bytes), 0, dtype, shape};
}

Result<PackedLinear> pack(const QuantizedWeight& weight) {
  const int64_t k = weight.site.k;
  COMET_CHECK(weight.site.k_padded == k && weight.site.perm.empty(),
              "{}: w8a8-int neither pads nor permutes channels", weight.name);
  COMET_CHECK(weight.codes.size() == static_cast<size_t>(weight.num_rows() * k) &&
                  weight.channel_scale.size() == static_cast<size_t>(weight.num_rows()),
              "{}: {} codes, {} scales", weight.name, weight.codes.size(),
              weight.channel_scale.size());
  if (k > kMaxChannels) {
    return make_error(ErrorCode::kUnsupported, "'{}': k = {}; w8a8-int holds at most {} channels",
                      weight.name, k, kMaxChannels);
  }
  const size_t dot = weight.name.rfind('.');
  const std::string prefix = dot == std::string::npos ? "" : weight.name.substr(0, dot + 1);
  PackedLinear packed;
  int64_t row = 0;
  for (size_t i = 0; i < weight.parts.size(); ++i) {
    const int64_t rows = weight.part_rows[i];
    const std::string name = prefix + weight.parts[i];
    Tensor codes = allocate(DType::kI8, {rows, k});
    std::copy_n(weight.codes.data() + row * k, rows * k, codes.data<int8_t>());
    packed.tensors.emplace_back(name + ".weight", std::move(codes));
    Tensor scales = allocate(DType::kF32, {rows});
    std::copy_n(weight.channel_scale.data() + row, rows, scales.data<float>());
    packed.tensors.emplace_back(name + ".weight_scale", std::move(scales));
    if (!weight.bias.empty()) {
      Tensor bias = allocate(DType::kF32, {rows});
      std::copy_n(weight.bias.data() + row, rows, bias.data<float>());
      packed.tensors.emplace_back(name + ".bias", std::move(bias));
    }
    row += rows;
  }
  return packed;
}

float bias_of(const Tensor& bias, int64_t i) {
  if (bias.dtype() == DType::kBF16) return to_float(bias.data<BFloat16>()[i]);
  if (bias.dtype() == DType::kF16) return to_float(bias.data<Float16>()[i]);
  return bias.data<float>()[i];
}

Result<QuantizedWeight> unpack(const LinearWeight& bound) {
  QuantizedWeight weight;
  weight.name = bound.spec.name;
  weight.parts = bound.spec.parts;
  weight.part_rows = bound.spec.part_rows;
  weight.site.k = bound.spec.k;
  weight.site.k_padded = bound.spec.k;
  const size_t num_parts = bound.spec.parts.size();
  for (size_t i = 0; i < num_parts; ++i) {
    const Tensor& codes = bound.tensors[i];
    const Tensor& scales = bound.tensors[num_parts + i];
    weight.codes.insert(weight.codes.end(), codes.data<int8_t>(),
                        codes.data<int8_t>() + codes.num_elements());
    weight.channel_scale.insert(weight.channel_scale.end(), scales.data<float>(),
                                scales.data<float>() + scales.num_elements());
    for (int64_t j = 0; bound.spec.has_bias && j < bound.spec.part_rows[i]; ++j) {
      weight.bias.push_back(bias_of(bound.tensors[2 * num_parts + i], j));
    }
  }
  return weight;
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
  ctx.pool.parallel_for(x.size(0), [&](int64_t row, int thread) {
    quantize_row(plan, x.row(row), scratch + thread * k,
                 {codes + row * k, scales + row * 2, sums + row * plan.blocks});
  });
}

Activation input_from_rows(Context& ctx, const LinearWeight& weight, View<const float, 2> x) {
  Activation activation = allocate_activation(ctx, weight, x.size(0));
  const ArenaScope scope(ctx.arena);
  quantize_rows(ctx, weight, x, activation);
  return activation;
}

Activation input_from_norm(Context& ctx, const LinearWeight& weight, const NormInput& input) {
  Activation activation = allocate_activation(ctx, weight, input.x.size(0));
  const ArenaScope scope(ctx.arena);
  const Tensor rows = ctx.arena.alloc(DType::kF32, {input.x.size(0), input.x.size(1)});
  ctx.ops.rms_norm(ctx, rows.view<float, 2>(), input.x, input.weight, input.eps);
  quantize_rows(ctx, weight, rows.view<const float, 2>(), activation);
  return activation;
}

Activation input_from_silu_mul(Context& ctx, const LinearWeight& weight,
                               const SiluMulInput& input) {
  Activation activation = allocate_activation(ctx, weight, input.gate.size(0));
  const ArenaScope scope(ctx.arena);
  const Tensor rows = ctx.arena.alloc(DType::kF32, {input.gate.size(0), input.gate.size(1)});
  ctx.ops.silu_mul(ctx, rows.view<float, 2>(), input.gate, input.up);
  quantize_rows(ctx, weight, rows.view<const float, 2>(), activation);
  return activation;
}

void reference_linear(const LinearWeight& weight, const Activation& x, View<float, 2> out) {
  const int64_t k = weight.spec.k;
  const int64_t stride = x.parts[kCodes].size(1);
  const size_t num_parts = weight.spec.parts.size();
  for (int64_t token = 0; token < x.rows; ++token) {
    const int8_t* codes = x.parts[kCodes].data<int8_t>() + token * stride;
    const float scale = x.parts[kScales].data<float>()[token * 2 + 1];
    int64_t column = 0;
    for (size_t part = 0; part < num_parts; ++part) {
      const int8_t* w = weight.tensors[part].data<int8_t>();
      for (int64_t row = 0; row < weight.spec.part_rows[part]; ++row, ++column) {
        int64_t sum = 0;
        for (int64_t i = 0; i < k; ++i) sum += int64_t{w[row * k + i]} * codes[i];
        float y = scale * static_cast<float>(static_cast<int32_t>(sum));
        y = weight.tensors[num_parts + part].data<float>()[row] * y;
        if (weight.spec.has_bias) y += bias_of(weight.tensors[2 * num_parts + part], row);
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
      .input_from_rows = w8a8_int::input_from_rows,
      .input_from_norm = w8a8_int::input_from_norm,
      .input_from_silu_mul = w8a8_int::input_from_silu_mul,
      .reference_linear = w8a8_int::reference_linear,
      .kernels = w8a8_int::kernels(),
  };
  return format;
}

}  // namespace comet::formats
