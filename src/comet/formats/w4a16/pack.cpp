// pack and unpack of w4a16: exact inverses. One set of tensors per part, under its own name, in
// compressed-tensors' layout.
#include <algorithm>

#include "comet/formats/float_input.h"
#include "comet/formats/w4a16/stored_part.h"
#include "comet/formats/w4a16/w4a16.h"
#include "comet/formats/weight_scales.h"

namespace comet::formats::w4a16 {
namespace {

Status check(const QuantizedWeight& weight) {
  const SiteLayout& site = weight.site;
  const auto rows = static_cast<size_t>(weight.num_rows());
  const int64_t group = weight.group_size;
  if (site.k % group != 0 || site.k > kMaxChannels) {
    return make_error(ErrorCode::kUnsupported,
                      "'{}': w4a16 needs input channels in groups of {}, {} at most, but there "
                      "are {}; use --format w4ax, which pads",
                      weight.name, group, kMaxChannels, site.k);
  }
  const auto groups = rows * static_cast<size_t>(site.k / group);
  const auto is_code = [](int8_t q) { return q >= -8 && q <= 7; };
  COMET_CHECK(site.k >= group && site.k_padded == site.k && site.scale == ActScale::kA16 &&
                  (site.perm.empty() || static_cast<int64_t>(site.perm.size()) == site.k),
              "{}: w4a16 keeps the model's channels and floats", weight.name);
  COMET_CHECK(weight.granularity == Granularity::kGroup && weight.group_scale.size() == groups,
              "{}: {} group scales", weight.name, weight.group_scale.size());
  COMET_CHECK(weight.parts.size() == weight.part_rows.size(), "{}", weight.name);
  COMET_CHECK(weight.codes.size() == rows * static_cast<size_t>(site.k), "{}: {} codes",
              weight.name, weight.codes.size());
  COMET_CHECK(weight.bias.empty() || weight.bias.size() == rows, "{}", weight.name);
  COMET_CHECK(std::all_of(weight.codes.begin(), weight.codes.end(), is_code),
              "{}: a code lies outside [-8, 7]", weight.name);
  COMET_CHECK(weight.group_zero.empty() ||
                  (weight.group_zero.size() == groups &&
                   std::all_of(weight.group_zero.begin(), weight.group_zero.end(), is_code)),
              "{}: {} zero points, all in [-8, 7]", weight.name, weight.group_zero.size());
  return check_finite_scales(weight);
}

/// Rows [begin, begin + rows) of the fused weight, channels in the model's order.
Tensor pack_words(const QuantizedWeight& weight, int64_t begin, int64_t rows) {
  const int64_t k = weight.site.k;
  const int64_t row_words = (k + kWordCodes - 1) / kWordCodes;
  Tensor packed = allocate(DType::kI32, {rows, row_words});
  auto* words = reinterpret_cast<uint32_t*>(packed.raw());
  std::fill_n(words, packed.num_elements(), 0U);
  for (int64_t row = 0; row < rows; ++row) {
    const int8_t* codes = weight.codes.data() + (begin + row) * k;
    for (int64_t i = 0; i < k; ++i) {
      const int64_t c = weight.site.perm.empty() ? i : weight.site.perm[i];
      words[row * row_words + c / kWordCodes] |= static_cast<uint32_t>(codes[i] + kCodeOffset)
                                                 << (4 * (c % kWordCodes));
    }
  }
  return packed;
}

/// [groups, all rows] → [rows, groups] in the stored type.
Tensor pack_scales(const QuantizedWeight& weight, int64_t begin, int64_t rows) {
  const int64_t groups = weight.site.k / weight.group_size;
  Tensor packed = allocate(weight.scale_type, {rows, groups});
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t g = 0; g < groups; ++g) {
      const float scale = weight.group_scale[g * weight.num_rows() + begin + row];
      const int64_t i = row * groups + g;
      if (weight.scale_type == DType::kF32) packed.data<float>()[i] = scale;
      if (weight.scale_type == DType::kBF16) packed.data<BFloat16>()[i] = to_bfloat16(scale);
      if (weight.scale_type == DType::kF16) packed.data<Float16>()[i] = to_float16(scale);
      COMET_CHECK(float_element(packed, i) == scale, "{}: scale {} is not exact in {}", weight.name,
                  scale, dtype_name(weight.scale_type));
    }
  }
  return packed;
}

/// Nibble i of word j of a column is row 8j + i.
Tensor pack_zeros(const QuantizedWeight& weight, int64_t begin, int64_t rows) {
  const int64_t groups = weight.site.k / weight.group_size;
  Tensor packed = allocate(DType::kI32, {(rows + kWordCodes - 1) / kWordCodes, groups});
  auto* words = reinterpret_cast<uint32_t*>(packed.raw());
  std::fill_n(words, packed.num_elements(), 0U);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t g = 0; g < groups; ++g) {
      const int zero{weight.group_zero[g * weight.num_rows() + begin + row]};
      words[row / kWordCodes * groups + g] |= static_cast<uint32_t>(zero + kCodeOffset)
                                              << (4 * (row % kWordCodes));
    }
  }
  return packed;
}

/// The group of each of the model's channels.
Tensor pack_group_index(const QuantizedWeight& weight) {
  Tensor index = allocate(DType::kI32, {weight.site.k});
  for (int64_t i = 0; i < weight.site.k; ++i) {
    index.data<int32_t>()[weight.site.perm[i]] = static_cast<int32_t>(i / weight.group_size);
  }
  return index;
}

/// Codes, scales and zero points of one part behind those that `weight` has.
void unpack_part(const LinearWeight& bound, size_t part, int64_t begin, QuantizedWeight& weight) {
  const Layout& layout = layout_of(bound);
  const int64_t rows = bound.spec.part_rows[part];
  const int64_t all_rows = bound.spec.n();
  const int64_t stored_groups = layout.k_padded / layout.group;
  const auto* words = reinterpret_cast<const uint32_t*>(bound.tensors[packed_slot(part)].raw());
  const Tensor& scales = bound.tensors[scale_slot(bound, part)];
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t i = 0; i < bound.spec.k; ++i) {
      const uint32_t word = words[(row * layout.k_padded + i) / kWordCodes];
      const auto nibble = static_cast<int>(word >> (4 * (i % kWordCodes)) & 15U);
      weight.codes.push_back(static_cast<int8_t>(nibble - kCodeOffset));
    }
    for (int64_t g = 0; g * layout.group < bound.spec.k; ++g) {
      const int64_t from = row * stored_groups + g;
      const int64_t to = g * all_rows + begin + row;
      weight.group_scale[to] = float_element(scales, from);
      if (!layout.has_zeros) continue;
      const int zero = bound.tensors[zero_slot(bound, part)].data<uint8_t>()[from];
      weight.group_zero[to] = static_cast<int8_t>(zero - kCodeOffset);
    }
  }
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
    if (!weight.group_zero.empty()) {
      packed.tensors.emplace_back(name + ".weight_zero_point", pack_zeros(weight, begin, rows));
    }
    if (!weight.site.perm.empty()) {
      packed.tensors.emplace_back(name + ".weight_g_idx", pack_group_index(weight));
    }
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
  const Layout& layout = layout_of(bound);
  QuantizedWeight weight;
  weight.name = bound.spec.name;
  weight.parts = bound.spec.parts;
  weight.part_rows = bound.spec.part_rows;
  weight.granularity = Granularity::kGroup;
  weight.group_size = layout.group;
  weight.scale_type = bound.tensors[scale_slot(bound, 0)].dtype();
  weight.site.k = bound.spec.k;
  weight.site.k_padded = bound.spec.k;
  weight.site.scale = ActScale::kA16;
  weight.site.perm = layout.order;
  const int64_t groups = (bound.spec.k + layout.group - 1) / layout.group;
  weight.codes.reserve(static_cast<size_t>(weight.num_rows() * bound.spec.k));
  weight.group_scale.resize(static_cast<size_t>(weight.num_rows() * groups));
  if (layout.has_zeros) weight.group_zero.resize(weight.group_scale.size());
  int64_t begin = 0;
  for (size_t part = 0; part < weight.parts.size(); ++part) {
    unpack_part(bound, part, begin, weight);
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
