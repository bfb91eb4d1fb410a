#include "comet/formats/w8a8/channel_codes.h"

#include <algorithm>
#include <cmath>

#include "comet/device/host_memory.h"
#include "comet/formats/float_input.h"
#include "comet/formats/schemes/scheme.h"
#include "comet/formats/weight_scales.h"

namespace comet::formats::w8a8 {
namespace {

constexpr std::array<DType, 3> kFloats{DType::kBF16, DType::kF16, DType::kF32};

DType dtype_of(CodeType type) { return type == CodeType::kInt ? DType::kI8 : DType::kF8E4M3; }

/// The output head, which no layer holds.
bool is_head(const std::string& name) { return name.find('.') == std::string::npos; }

Error channels_error(const WeightFormat& format, const std::string& name, int64_t k) {
  return make_error(ErrorCode::kUnsupported, "'{}': k = {}; {} holds 1 to {} channels", name, k,
                    format.name, kMaxChannels);
}

/// Tensors of one suffix for every part, behind those that the weight has already.
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

/// A zero point of a symmetric checkpoint, if it stores any, must be 0.
Status check_zero_points(const TensorSource& tensors, const LinearSpec& spec) {
  constexpr std::array<DType, 1> kIntegers{DType::kI8};
  for (size_t i = 0; i < spec.parts.size(); ++i) {
    const std::string name = spec.prefix + spec.parts[i] + ".weight_zero_point";
    if (!tensors.contains(name)) continue;
    const auto points = tensors.get(name, kIntegers, Shape{spec.part_rows[i], 1});
    if (!points) return points.error();
    const auto* values = points->data<int8_t>();
    if (std::all_of(values, values + spec.part_rows[i], [](int8_t z) { return z == 0; })) continue;
    return make_error(ErrorCode::kUnsupported,
                      "tensor '{}' is not all 0; 8-bit weights must be symmetric", name);
  }
  return {};
}

Status read_scales(LinearWeight& weight) {
  const size_t num_parts = weight.spec.parts.size();
  auto meta = std::make_shared<ChannelMeta>();
  for (size_t part = 0; part < num_parts; ++part) {
    const Tensor& scales = weight.tensors[num_parts + part];
    const std::string name = weight.spec.prefix + weight.spec.parts[part] + ".weight_scale";
    if (scales.dtype() != weight.tensors[num_parts].dtype()) {
      return make_error(ErrorCode::kUnsupported,
                        "tensor '{}' is {}, unlike those of the linears that it is fused with",
                        name, dtype_name(scales.dtype()));
    }
    for (int64_t i = 0; i < weight.spec.part_rows[part]; ++i) {
      // One scale of a whole part stands for all rows.
      const int64_t element = scales.num_elements() == 1 ? 0 : i;
      meta->scales.push_back(float_element(scales, element));
      if (std::isfinite(meta->scales.back())) continue;
      return make_error(ErrorCode::kCorrupt, "tensor '{}': element {} is not a finite number", name,
                        element);
    }
  }
  weight.meta = std::move(meta);
  return {};
}

/// A scalar, which files hold as [1] or [].
Result<float> read_scalar(const TensorSource& tensors, const std::string& name) {
  auto scalar = tensors.get(name, kFloats, Shape{1});
  if (!scalar) {
    auto without_dimensions = tensors.get(name, kFloats, Shape());
    if (!without_dimensions) return scalar.error();
    scalar = std::move(without_dimensions);
  }
  const float value = float_element(*scalar, 0);
  if (std::isfinite(value) && value > 0) return value;
  return make_error(ErrorCode::kCorrupt, "tensor '{}' is {}; expected a scale above 0", name,
                    value);
}

/// Static scales of the parts' inputs: the largest, because one product serves all parts.
Status read_input_scale(const TensorSource& tensors, LinearWeight& weight) {
  auto meta = std::make_shared<ChannelMeta>(static_cast<const ChannelMeta&>(*weight.meta));
  for (const std::string& part : weight.spec.parts) {
    const auto scale = read_scalar(tensors, weight.spec.prefix + part + ".input_scale");
    if (!scale) return scale.error();
    meta->input_scale = std::max(meta->input_scale, *scale);
  }
  weight.meta = std::move(meta);
  return {};
}

/// One scale per part.
Status add_tensor_scales(const TensorSource& tensors, LinearWeight& weight) {
  for (const std::string& part : weight.spec.parts) {
    const std::string name = weight.spec.prefix + part + ".weight_scale";
    auto scale = tensors.get(name, kFloats, Shape{1});
    if (!scale) {
      auto without_dimensions = tensors.get(name, kFloats, Shape());
      if (!without_dimensions) return scale.error();
      scale = std::move(without_dimensions);
    }
    weight.tensors.push_back(*std::move(scale));
  }
  return {};
}

bool is_nan_code(int8_t code) { return (code & 0x7F) == 0x7F; }

/// Kernels read every E4M3 code as a number.
Status check_no_nan(const LinearWeight& weight) {
  for (size_t part = 0; part < weight.spec.parts.size(); ++part) {
    const Tensor& codes = weight.tensors[part];
    if (!is_host_memory(codes.raw())) continue;  // no file's: made on the GPU
    const auto* values = reinterpret_cast<const int8_t*>(codes.raw());
    int found = 0;  // without a branch, so that the compiler can take many codes at once
    for (int64_t i = 0; i < codes.num_elements(); ++i) found |= is_nan_code(values[i]) ? 1 : 0;
    if (found == 0) continue;
    return make_error(ErrorCode::kCorrupt, "tensor '{}{}.weight': an element is NaN",
                      weight.spec.prefix, weight.spec.parts[part]);
  }
  return {};
}

Tensor allocate(DType dtype, const Shape& shape) {
  const auto bytes = static_cast<size_t>(shape.num_elements() * dtype_bytes(dtype));
  return {std::make_shared<Storage>(host_allocator(), bytes), 0, dtype, shape};
}

Status check(const WeightFormat& format, CodeType type, const QuantizedWeight& weight) {
  const int64_t k = weight.site.k;
  const auto rows = static_cast<size_t>(weight.num_rows());
  COMET_CHECK(weight.site.k_padded == k && weight.site.perm.empty() &&
                  weight.granularity == Granularity::kChannel && weight.code_type == type,
              "{}: {} keeps the model's channels and has one scale for all of them", weight.name,
              format.name);
  COMET_CHECK(weight.parts.size() == weight.part_rows.size() &&
                  weight.codes.size() == rows * static_cast<size_t>(k) &&
                  weight.channel_scale.size() == rows &&
                  (weight.bias.empty() || weight.bias.size() == rows),
              "{}: {} codes, {} scales, {} biases", weight.name, weight.codes.size(),
              weight.channel_scale.size(), weight.bias.size());
  COMET_CHECK(
      type == CodeType::kInt || std::none_of(weight.codes.begin(), weight.codes.end(), is_nan_code),
      "{}: a code is NaN", weight.name);
  COMET_CHECK(!is_head(weight.name) || weight.channel_scale_type == DType::kF32, "{}: scales {}",
              weight.name, dtype_name(weight.channel_scale_type));
  if (k < 1 || k > kMaxChannels) return channels_error(format, weight.name, k);
  return check_finite_scales(weight);
}

Tensor pack_scales(const QuantizedWeight& weight, int64_t begin, int64_t rows) {
  const Shape shape = is_head(weight.name) ? Shape{rows} : Shape{rows, 1};
  Tensor packed = allocate(weight.channel_scale_type, shape);
  for (int64_t i = 0; i < rows; ++i) {
    const float scale = weight.channel_scale[static_cast<size_t>(begin + i)];
    switch (weight.channel_scale_type) {
      case DType::kBF16:
        packed.data<BFloat16>()[i] = to_bfloat16(scale);
        break;
      case DType::kF16:
        packed.data<Float16>()[i] = to_float16(scale);
        break;
      default:
        packed.data<float>()[i] = scale;
    }
    COMET_CHECK(float_element(packed, i) == scale, "{}: scale {} is not exact in {}", weight.name,
                scale, dtype_name(weight.channel_scale_type));
  }
  return packed;
}

}  // namespace

Result<LinearWeight> bind(const WeightFormat& format, CodeType type, const LinearSpec& spec,
                          const FormatConfig* config, const TensorSource& tensors) {
  COMET_CHECK(spec.parts.size() == spec.part_rows.size() && !spec.parts.empty(), "{}", spec.name);
  if (spec.k < 1 || spec.k > kMaxChannels) return channels_error(format, spec.name, spec.k);
  LinearWeight weight{&format, spec, {}, nullptr, nullptr};
  const std::array<DType, 1> codes{dtype_of(type)};
  constexpr std::array<DType, 1> kFp32{DType::kF32};
  Scheme scheme;
  const auto* table = dynamic_cast<const SchemeTable*>(config);
  if (table != nullptr) {
    const auto found = table->find(spec);
    if (!found) return found.error();
    scheme = *found;
  }
  const bool head = table == nullptr && is_head(spec.name);
  Status status = add_parts(tensors, ".weight", codes, spec.k, weight);
  if (status && head) status = add_parts(tensors, ".weight_scale", kFp32, 0, weight);
  if (status && scheme.tensor_scale) status = add_tensor_scales(tensors, weight);
  if (status && !head && !scheme.tensor_scale) {
    status = add_parts(tensors, ".weight_scale", kFloats, 1, weight);
  }
  if (status && spec.has_bias) status = add_parts(tensors, ".bias", kFloats, 0, weight);
  if (status) status = read_scales(weight);
  if (status && !scheme.tensor_scale) status = check_zero_points(tensors, spec);
  if (status && scheme.static_input) status = read_input_scale(tensors, weight);
  if (status && type == CodeType::kE4M3) status = check_no_nan(weight);
  if (!status) return status.error();
  return weight;
}

Result<PackedLinear> pack(const WeightFormat& format, CodeType type,
                          const QuantizedWeight& weight) {
  if (const Status s = check(format, type, weight); !s) return s.error();
  const int64_t k = weight.site.k;
  const std::string prefix =
      is_head(weight.name) ? "" : weight.name.substr(0, weight.name.rfind('.') + 1);
  PackedLinear packed;
  int64_t begin = 0;
  for (size_t part = 0; part < weight.parts.size(); ++part) {
    const int64_t rows = weight.part_rows[part];
    const std::string name = prefix + weight.parts[part];
    Tensor codes = allocate(dtype_of(type), {rows, k});
    std::copy_n(weight.codes.data() + begin * k, rows * k, reinterpret_cast<int8_t*>(codes.raw()));
    packed.tensors.emplace_back(name + ".weight", std::move(codes));
    packed.tensors.emplace_back(name + ".weight_scale", pack_scales(weight, begin, rows));
    if (!weight.bias.empty()) {
      Tensor bias = allocate(DType::kF32, {rows});
      std::copy_n(weight.bias.begin() + begin, rows, bias.data<float>());
      packed.tensors.emplace_back(name + ".bias", std::move(bias));
    }
    begin += rows;
  }
  return packed;
}

Result<QuantizedWeight> unpack(CodeType type, const LinearWeight& bound) {
  QuantizedWeight weight;
  weight.name = bound.spec.name;
  weight.parts = bound.spec.parts;
  weight.part_rows = bound.spec.part_rows;
  weight.code_type = type;
  weight.site.k = bound.spec.k;
  weight.site.k_padded = bound.spec.k;
  weight.site.scale = ActScale::kToken;
  const size_t num_parts = bound.spec.parts.size();
  weight.channel_scale_type = bound.tensors[num_parts].dtype();
  const float* scales = scales_of(bound);
  weight.channel_scale.assign(scales, scales + weight.num_rows());
  for (size_t part = 0; part < num_parts; ++part) {
    const Tensor& codes = bound.tensors[part];
    const auto* values = reinterpret_cast<const int8_t*>(codes.raw());
    weight.codes.insert(weight.codes.end(), values, values + codes.num_elements());
    for (int64_t i = 0; bound.spec.has_bias && i < bound.spec.part_rows[part]; ++i) {
      weight.bias.push_back(float_element(bias_of(bound, part), i));
    }
  }
  return weight;
}

}  // namespace comet::formats::w8a8
