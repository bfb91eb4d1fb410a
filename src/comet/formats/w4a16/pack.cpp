// pack and unpack of w4a16: exact inverses. One set of tensors per part, under its own name.
#include <algorithm>
#include <cmath>

#include "comet/formats/float_input.h"
#include "comet/formats/w4a16/w4a16.h"

namespace comet::formats::w4a16 {
namespace {

Tensor allocate(DType dtype, const Shape& shape) {
  const auto bytes = static_cast<size_t>(shape.num_elements() * dtype_bytes(dtype));
  return {std::make_shared<Storage>(host_allocator(), bytes), 0, dtype, shape};
}

Status check(const QuantizedWeight& weight) {
  const SiteLayout& site = weight.site;
  const auto rows = static_cast<size_t>(weight.num_rows());
  if (site.k % kBlock != 0 || site.k > kMaxChannels) {
    return make_error(ErrorCode::kUnsupported,
                      "'{}': w4a16 needs input channels in groups of 128, {} at most, but there "
                      "are {}; use --format w4ax, which pads",
                      weight.name, kMaxChannels, site.k);
  }
  COMET_CHECK(site.k >= kBlock && site.k_padded == site.k && site.perm.empty() &&
                  site.scale == ActScale::kA16,
              "{}: w4a16 keeps the model's channels and floats", weight.name);
  COMET_CHECK(weight.granularity == Granularity::kGroup &&
                  weight.group_scale.size() == rows * static_cast<size_t>(site.num_blocks()),
              "{}: {} group scales", weight.name, weight.group_scale.size());
  COMET_CHECK(weight.scale_type == DType::kF16 || weight.scale_type == DType::kBF16,
              "{}: scales {}", weight.name, dtype_name(weight.scale_type));
  COMET_CHECK(weight.parts.size() == weight.part_rows.size(), "{}", weight.name);
  COMET_CHECK(weight.codes.size() == rows * static_cast<size_t>(site.k), "{}: {} codes",
              weight.name, weight.codes.size());
  COMET_CHECK(weight.bias.empty() || weight.bias.size() == rows, "{}", weight.name);
  COMET_CHECK(std::all_of(weight.codes.begin(), weight.codes.end(),
                          [](int8_t q) { return q >= -8 && q <= 7; }),
              "{}: a code lies outside [-8, 7]", weight.name);
  if (!std::all_of(weight.group_scale.begin(), weight.group_scale.end(),
                   [](float s) { return std::isfinite(s); })) {
    return make_error(ErrorCode::kInvalidArgument,
                      "'{}': a weight scale is not a finite number of its type; look for NaN or "
                      "huge weights in the model",
                      weight.name);
  }
  return {};
}

/// Rows [begin, begin + rows) of the fused weight.
Tensor pack_words(const QuantizedWeight& weight, int64_t begin, int64_t rows) {
  const int64_t k = weight.site.k;
  Tensor packed = allocate(DType::kI32, {rows, k / kWordCodes});
  auto* words = reinterpret_cast<uint32_t*>(packed.raw());
  const int8_t* codes = weight.codes.data() + begin * k;
  for (int64_t w = 0; w < packed.num_elements(); ++w) {
    uint32_t word = 0;
    for (int64_t i = 0; i < kWordCodes; ++i) {
      word |= static_cast<uint32_t>(codes[w * kWordCodes + i] + kCodeOffset) << (4 * i);
    }
    words[w] = word;
  }
  return packed;
}

/// [blocks, all rows] → [rows, blocks] in the stored type.
Tensor pack_scales(const QuantizedWeight& weight, int64_t begin, int64_t rows) {
  const int64_t blocks = weight.site.num_blocks();
  Tensor packed = allocate(weight.scale_type, {rows, blocks});
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t b = 0; b < blocks; ++b) {
      const float scale = weight.group_scale[b * weight.num_rows() + begin + row];
      const int64_t i = row * blocks + b;
      if (weight.scale_type == DType::kBF16) {
        packed.data<BFloat16>()[i] = to_bfloat16(scale);
      } else {
        packed.data<Float16>()[i] = to_float16(scale);
      }
      COMET_CHECK(float_element(packed, i) == scale, "{}: scale {} is not exact in {}", weight.name,
                  scale, dtype_name(weight.scale_type));
    }
  }
  return packed;
}

}  // namespace

Result<PackedLinear> pack(const QuantizedWeight& weight) {
  if (const Status s = check(weight); !s) return s.error();
  PackedLinear packed;
  const std::string prefix = weight.name.substr(0, weight.name.rfind('.') + 1);
  int64_t begin = 0;
  for (size_t part = 0; part < weight.parts.size(); ++part) {
    const int64_t rows = weight.part_rows[part];
    const std::string name = prefix + weight.parts[part];
    Tensor shape = allocate(DType::kI64, {2});
    shape.data<int64_t>()[0] = rows;
    shape.data<int64_t>()[1] = weight.site.k;
    packed.tensors.emplace_back(name + ".weight_packed", pack_words(weight, begin, rows));
    packed.tensors.emplace_back(name + ".weight_scale", pack_scales(weight, begin, rows));
    packed.tensors.emplace_back(name + ".weight_shape", std::move(shape));
    if (!weight.bias.empty()) {
      Tensor bias = allocate(DType::kF32, {rows});
      std::copy_n(weight.bias.begin() + begin, rows, bias.data<float>());
      packed.tensors.emplace_back(name + ".bias", std::move(bias));
    }
    begin += rows;
  }
  return packed;
}

Result<QuantizedWeight> unpack(const LinearWeight& bound) {
  QuantizedWeight weight;
  weight.name = bound.spec.name;
  weight.parts = bound.spec.parts;
  weight.part_rows = bound.spec.part_rows;
  weight.granularity = Granularity::kGroup;
  weight.site.k = bound.spec.k;
  weight.site.k_padded = bound.spec.k;
  weight.site.scale = ActScale::kA16;
  const int64_t blocks = weight.site.num_blocks();
  const int64_t all_rows = weight.num_rows();
  weight.codes.reserve(static_cast<size_t>(all_rows * weight.site.k));
  weight.group_scale.resize(static_cast<size_t>(all_rows * blocks));
  int64_t begin = 0;
  for (size_t part = 0; part < weight.parts.size(); ++part) {
    const Tensor& packed = bound.tensors[packed_slot(part)];
    const auto* words = reinterpret_cast<const uint32_t*>(packed.raw());
    for (int64_t w = 0; w < packed.num_elements(); ++w) {
      for (int64_t i = 0; i < kWordCodes; ++i) {
        const auto nibble = static_cast<int>(words[w] >> (4 * i) & 15U);
        weight.codes.push_back(static_cast<int8_t>(nibble - kCodeOffset));
      }
    }
    const Tensor& scales = bound.tensors[scale_slot(bound, part)];
    weight.scale_type = scales.dtype();
    for (int64_t i = 0; i < scales.num_elements(); ++i) {
      weight.group_scale[i % blocks * all_rows + begin + i / blocks] = float_element(scales, i);
    }
    begin += weight.part_rows[part];
    if (!bound.spec.has_bias) continue;
    const Tensor& bias = bound.tensors[bias_slot(bound, part)];
    for (int64_t i = 0; i < bias.num_elements(); ++i) {
      weight.bias.push_back(float_element(bias, i));
    }
  }
  return weight;
}

}  // namespace comet::formats::w4a16
