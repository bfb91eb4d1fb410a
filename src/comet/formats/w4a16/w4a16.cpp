#include "comet/formats/w4a16/w4a16.h"

#include <cmath>

#include "comet/formats/float_input.h"

namespace comet::formats {
namespace w4a16 {
namespace {

/// Tensors of one suffix for every part, in order, behind those that the weight has already.
Status add_parts(const TensorSource& tensors, std::string_view suffix,
                 std::span<const DType> dtypes, int64_t columns, LinearWeight& weight) {
  for (size_t i = 0; i < weight.spec.parts.size(); ++i) {
    const std::string name = weight.spec.prefix + weight.spec.parts[i] + std::string(suffix);
    const int64_t rows = weight.spec.part_rows[i];
    auto tensor = tensors.get(name, dtypes, columns == 0 ? Shape{rows} : Shape{rows, columns});
    if (!tensor) return tensor.error();
    weight.tensors.push_back(std::move(*tensor));
  }
  return {};
}

/// weight_shape says what the model needs, and no tensor asks for what Comet would ignore.
Status check_part(const TensorSource& tensors, const LinearSpec& spec, size_t part) {
  const std::string name = spec.prefix + spec.parts[part];
  for (const char* suffix : {".weight_g_idx", ".weight_zero_point"}) {
    if (!tensors.contains(name + suffix)) continue;
    return make_error(ErrorCode::kUnsupported,
                      "tensor '{}{}': w4a16 has symmetric groups of neighbouring channels only; "
                      "quantize the original with `comet quantize MODEL -o OUT --format w4a16`",
                      name, suffix);
  }
  const std::array<DType, 1> integers{DType::kI64};
  const auto shape = tensors.get(name + ".weight_shape", integers, Shape{2});
  if (!shape) return shape.error();
  const int64_t* sizes = shape->data<int64_t>();
  if (sizes[0] != spec.part_rows[part] || sizes[1] != spec.k) {
    return make_error(ErrorCode::kCorrupt,
                      "tensor '{}.weight_shape' is [{}, {}]; expected [{}, {}]", name, sizes[0],
                      sizes[1], spec.part_rows[part], spec.k);
  }
  return {};
}

Status check_scales(const LinearWeight& weight) {
  for (size_t part = 0; part < weight.spec.parts.size(); ++part) {
    const std::string name = weight.spec.prefix + weight.spec.parts[part] + ".weight_scale";
    const Tensor& scales = weight.tensors[scale_slot(weight, part)];
    if (scales.dtype() != weight.tensors[scale_slot(weight, 0)].dtype()) {
      return make_error(ErrorCode::kUnsupported,
                        "tensor '{}' is {}, unlike those of the linears that it is fused with",
                        name, dtype_name(scales.dtype()));
    }
    for (int64_t i = 0; i < scales.num_elements(); ++i) {
      if (std::isfinite(float_element(scales, i))) continue;
      return make_error(ErrorCode::kCorrupt, "tensor '{}': element {} is not a finite number", name,
                        i);
    }
  }
  return {};
}

Result<LinearWeight> bind(const LinearSpec& spec, const FormatConfig* /*config*/,
                          const TensorSource& tensors) {
  COMET_CHECK(spec.parts.size() == spec.part_rows.size() && !spec.parts.empty(), "{}", spec.name);
  if (spec.k < kBlock || spec.k % kBlock != 0 || spec.k > kMaxChannels) {
    return make_error(ErrorCode::kUnsupported,
                      "'{}': w4a16 needs input channels in groups of 128, {} at most, but there "
                      "are {}",
                      spec.name, kMaxChannels, spec.k);
  }
  for (size_t part = 0; part < spec.parts.size(); ++part) {
    if (const Status s = check_part(tensors, spec, part); !s) return s.error();
  }
  constexpr std::array<DType, 1> kWords{DType::kI32};
  constexpr std::array<DType, 2> kHalves{DType::kBF16, DType::kF16};
  constexpr std::array<DType, 3> kFloats{DType::kF32, DType::kBF16, DType::kF16};
  LinearWeight weight{&w4a16_format(), spec, {}, nullptr, nullptr};
  Status status = add_parts(tensors, ".weight_packed", kWords, spec.k / kWordCodes, weight);
  if (status) status = add_parts(tensors, ".weight_scale", kHalves, spec.k / kBlock, weight);
  if (status && spec.has_bias) status = add_parts(tensors, ".bias", kFloats, 0, weight);
  if (status) status = check_scales(weight);
  if (!status) return status.error();
  return weight;
}

/// y = Σ_k x·(q·scale) from the definition; q·scale is exact in FP32.
void reference_linear(const LinearWeight& weight, const Activation& x, View<float, 2> out) {
  const int64_t k = weight.spec.k;
  const float* rows = x.parts[0].data<float>();
  for (int64_t token = 0; token < x.rows; ++token) {
    int64_t column = 0;
    for (size_t part = 0; part < weight.spec.parts.size(); ++part) {
      const auto* words =
          reinterpret_cast<const uint32_t*>(weight.tensors[packed_slot(part)].raw());
      const Tensor& scales = weight.tensors[scale_slot(weight, part)];
      for (int64_t row = 0; row < weight.spec.part_rows[part]; ++row, ++column) {
        double sum = 0;
        for (int64_t i = 0; i < k; ++i) {
          const uint32_t word = words[(row * k + i) / kWordCodes];
          const int code = static_cast<int>(word >> (4 * (i % kWordCodes)) & 15U) - kCodeOffset;
          const double scale = float_element(scales, (row * k + i) / kBlock);
          sum += double{rows[token * k + i]} * code * scale;
        }
        if (weight.spec.has_bias) {
          sum += double{float_element(weight.tensors[bias_slot(weight, part)], row)};
        }
        out(token, column) = static_cast<float>(sum);
      }
    }
  }
}

}  // namespace
}  // namespace w4a16

const WeightFormat& w4a16_format() {
  static const WeightFormat format{
      .name = "w4a16",
      .version = 1,
      .parse_config = w4a16::parse_config,
      .bind = w4a16::bind,
      .pack = w4a16::pack,
      .unpack = w4a16::unpack,
      .input_from_rows = float_input_from_rows,
      .input_from_norm = float_input_from_norm,
      .input_from_silu_mul = float_input_from_silu_mul,
      .reference_linear = w4a16::reference_linear,
      .kernels = w4a16::kernels(),
      .manifest = w4a16::manifest,
      .quant_method = "compressed-tensors",
      .disk_format = "pack-quantized",
  };
  return format;
}

}  // namespace comet::formats
