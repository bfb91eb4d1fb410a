#include "comet/formats/dense/dense.h"

#include "comet/formats/float_input.h"

namespace comet::formats {
namespace {

constexpr std::array<DType, 3> kFloatTypes{DType::kBF16, DType::kF16, DType::kF32};

Result<std::shared_ptr<const FormatConfig>> parse_config(const Json& quantization_config,
                                                         const std::string& source) {
  if (!quantization_config.is_null()) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: has a quantization_config, so its format is not dense", source);
  }
  return std::make_shared<const FormatConfig>();
}

Result<LinearWeight> bind(const LinearSpec& spec, const FormatConfig* /*config*/,
                          const TensorSource& tensors) {
  COMET_CHECK(spec.parts.size() == spec.part_rows.size() && !spec.parts.empty(), "{}", spec.name);
  LinearWeight weight{&dense_format(), spec, {}, nullptr, nullptr};
  for (size_t i = 0; i < spec.parts.size(); ++i) {
    auto part = tensors.get(spec.prefix + spec.parts[i] + ".weight", kFloatTypes,
                            Shape{spec.part_rows[i], spec.k});
    if (!part) return part.error();
    weight.tensors.push_back(std::move(*part));
  }
  for (size_t i = 0; spec.has_bias && i < spec.parts.size(); ++i) {
    auto bias =
        tensors.get(spec.prefix + spec.parts[i] + ".bias", kFloatTypes, Shape{spec.part_rows[i]});
    if (!bias) return bias.error();
    weight.tensors.push_back(std::move(*bias));
  }
  return weight;
}

Result<QuantizedWeight> unpack(const LinearWeight& weight) {
  return make_error(ErrorCode::kUnsupported, "'{}' is dense: it has no integer codes",
                    weight.spec.name);
}

void reference_linear(const LinearWeight& weight, const Activation& x, View<float, 2> out) {
  const int64_t k = weight.spec.k;
  const float* rows = x.parts[0].data<float>();
  const size_t num_parts = weight.spec.parts.size();
  for (int64_t token = 0; token < x.rows; ++token) {
    int64_t column = 0;
    for (size_t part = 0; part < num_parts; ++part) {
      for (int64_t row = 0; row < weight.spec.part_rows[part]; ++row, ++column) {
        double sum = 0;
        for (int64_t i = 0; i < k; ++i) {
          sum += double{rows[token * k + i]} *
                 double{float_element(weight.tensors[part], row * k + i)};
        }
        if (weight.spec.has_bias)
          sum += double{float_element(weight.tensors[num_parts + part], row)};
        out(token, column) = static_cast<float>(sum);
      }
    }
  }
}

}  // namespace

const WeightFormat& dense_format() {
  static const WeightFormat format{
      .name = "dense",
      .version = 1,
      .parse_config = parse_config,
      .bind = bind,
      .pack = nullptr,
      .unpack = unpack,
      .reference_linear = reference_linear,
      .cpu = {.input_from_rows = float_input_from_rows,
              .input_from_norm = float_input_from_norm,
              .input_from_silu_mul = float_input_from_silu_mul,
              .kernels = dense_kernels(),
              .prepare = dense_cpu_prepare},
      .cuda = dense_cuda_backend(),
  };
  return format;
}

}  // namespace comet::formats
