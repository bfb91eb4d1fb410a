// Binding of w4a16: the parts as the file has them, or, where the file has another layout, order of
// channels or width of groups, arranged once as the kernels read them.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>

#include "comet/formats/float_input.h"
#include "comet/formats/w4a16/stored_part.h"
#include "comet/formats/w4a16/w4a16.h"

namespace comet::formats::w4a16 {
namespace {

Status check_channels(const LinearSpec& spec, const Scheme& scheme, const std::string& where) {
  if (spec.k < 1 || spec.k > kMaxChannels) {
    return make_error(ErrorCode::kUnsupported, "{}'{}' has {} input channels; w4a16 holds 1 to {}",
                      where, spec.name, spec.k, kMaxChannels);
  }
  if (scheme.group_size == 0 || spec.k % scheme.group_size == 0) return {};
  return make_error(ErrorCode::kUnsupported,
                    "{}'{}': w4a16 needs input channels in groups of {}, but there are {}; "
                    "expected a group size that divides them",
                    where, spec.name, scheme.group_size, spec.k);
}

Status check_scales(const PartRequest& part, const Tensor& scales) {
  for (int64_t i = 0; i < scales.num_elements(); ++i) {
    if (std::isfinite(float_element(scales, i))) continue;
    const bool own_name = part.scheme.layout == DiskLayout::kPackQuantized;
    return make_error(ErrorCode::kCorrupt,
                      "{}tensor '{}.{}': scale {} of {} is not a finite number", part.where,
                      part.name, own_name ? "weight_scale" : "scales", i, scales.num_elements());
  }
  return {};
}

Result<StoredPart> read_part(const PartRequest& part, const TensorSource& tensors) {
  auto stored = part.scheme.layout == DiskLayout::kGptq  ? read_gptq(part, tensors)
                : part.scheme.layout == DiskLayout::kAwq ? read_awq(part, tensors)
                                                         : read_pack_quantized(part, tensors);
  if (!stored) return stored;
  if (const Status s = check_scales(part, stored->scales); !s) return s.error();
  if (stored->zeros.defined()) {
    const auto* zeros = stored->zeros.data<uint8_t>();
    const auto is_plain = [](uint8_t z) { return z == kCodeOffset; };
    if (std::all_of(zeros, zeros + stored->zeros.num_elements(), is_plain)) stored->zeros = {};
  }
  return stored;
}

/// Channels group by group, each group in the model's order.
std::vector<int32_t> order_of(const std::vector<int32_t>& group_of) {
  std::vector<int32_t> order(group_of.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return group_of[a] < group_of[b]; });
  return order;
}

/// Words [rows, k_padded/8] in the layout's order; padding is the code 0.
Tensor arrange_words(const Tensor& words, const Layout& layout, int64_t k) {
  if (layout.order.empty() && layout.k_padded == k) return words;
  const int64_t rows = words.size(0);
  const int64_t in_words = words.size(1);
  const int64_t out_words = layout.k_padded / kWordCodes;
  Tensor arranged = allocate(DType::kI32, {rows, out_words});
  for (int64_t row = 0; row < rows; ++row) {
    const uint32_t* in = reinterpret_cast<const uint32_t*>(words.raw()) + row * in_words;
    uint32_t* out = reinterpret_cast<uint32_t*>(arranged.raw()) + row * out_words;
    for (int64_t w = 0; w < out_words; ++w) {
      uint32_t word = 0;
      for (int64_t i = 0; i < kWordCodes; ++i) {
        const int64_t position = w * kWordCodes + i;
        uint32_t code = kCodeOffset;
        if (position < k) {
          const int64_t c = layout.order.empty() ? position : layout.order[position];
          code = in[c / kWordCodes] >> (4 * (c % kWordCodes)) & 15U;
        }
        word |= code << (4 * i);
      }
      out[w] = word;
    }
  }
  return arranged;
}

/// One value per group of the layout: those of wider groups repeated; 0 where there is padding.
Tensor arrange_groups(const Tensor& values, const Layout& layout, int64_t k, int64_t group_size) {
  const int64_t rows = values.size(0);
  const int64_t groups = layout.k_padded / layout.group;
  if (values.size(1) == groups) return values;
  Tensor arranged = allocate(values.dtype(), {rows, groups});
  const auto bytes = static_cast<size_t>(dtype_bytes(values.dtype()));
  const int64_t span = group_size == 0 ? k : group_size;
  std::fill_n(arranged.raw(), static_cast<size_t>(arranged.num_bytes()), std::byte{0});
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t g = 0; g * layout.group < k; ++g) {
      const int64_t from = row * values.size(1) + g * layout.group / span;
      std::copy_n(values.raw() + static_cast<size_t>(from) * bytes, bytes,
                  arranged.raw() + static_cast<size_t>(row * groups + g) * bytes);
    }
  }
  return arranged;
}

Tensor plain_zeros(int64_t rows, int64_t groups) {
  Tensor zeros = allocate(DType::kU8, {rows, groups});
  std::fill_n(zeros.data<uint8_t>(), zeros.num_elements(), uint8_t{kCodeOffset});
  return zeros;
}

/// Parts are fused: they share order and type of scales.
Status check_alike(const LinearSpec& spec, const std::vector<StoredPart>& parts,
                   const std::string& where) {
  for (size_t i = 1; i < parts.size(); ++i) {
    const std::string name = spec.prefix + spec.parts[i];
    if (parts[i].scales.dtype() != parts[0].scales.dtype()) {
      return make_error(ErrorCode::kUnsupported,
                        "{}tensor '{}.weight_scale' is {}, unlike those of the linears that it is "
                        "fused with",
                        where, name, dtype_name(parts[i].scales.dtype()));
    }
    if (parts[i].group_of != parts[0].group_of) {
      return make_error(ErrorCode::kUnsupported,
                        "{}'{}' assigns channels to groups (g_idx) unlike '{}{}', with which it is "
                        "fused; expected the same",
                        where, name, spec.prefix, spec.parts[0]);
    }
  }
  return {};
}

/// The tensors of all parts in the order that w4a16.h names.
Status add_tensors(const std::vector<StoredPart>& parts, const Scheme& scheme,
                   const TensorSource& tensors, LinearWeight& weight) {
  const LinearSpec& spec = weight.spec;
  const Layout& layout = layout_of(weight);
  for (const StoredPart& part : parts) {
    weight.tensors.push_back(arrange_words(part.words, layout, spec.k));
  }
  for (const StoredPart& part : parts) {
    weight.tensors.push_back(arrange_groups(part.scales, layout, spec.k, scheme.group_size));
  }
  constexpr std::array kFloats{DType::kF32, DType::kBF16, DType::kF16};
  for (size_t i = 0; spec.has_bias && i < parts.size(); ++i) {
    auto bias = tensors.get(spec.prefix + spec.parts[i] + ".bias", kFloats, {spec.part_rows[i]});
    if (!bias) return bias.error();
    weight.tensors.push_back(*std::move(bias));
  }
  for (size_t i = 0; layout.has_zeros && i < parts.size(); ++i) {
    const Tensor zeros = parts[i].zeros.defined()
                             ? parts[i].zeros
                             : plain_zeros(spec.part_rows[i], parts[i].scales.size(1));
    weight.tensors.push_back(arrange_groups(zeros, layout, spec.k, scheme.group_size));
  }
  return {};
}

}  // namespace

Result<LinearWeight> bind(const LinearSpec& spec, const FormatConfig* config,
                          const TensorSource& tensors) {
  COMET_CHECK(spec.parts.size() == spec.part_rows.size() && !spec.parts.empty(), "{}", spec.name);
  Scheme scheme{.layout = DiskLayout::kPackQuantized};
  std::string where;
  if (const auto* table = dynamic_cast<const SchemeTable*>(config); table != nullptr) {
    const auto found = table->find(spec);
    if (!found) return found.error();
    scheme = *found;
    where = std::filesystem::path(table->source()).parent_path().string();
    if (!where.empty()) where += ": ";
  }
  if (const Status s = check_channels(spec, scheme, where); !s) return s.error();
  std::vector<StoredPart> parts;
  for (size_t i = 0; i < spec.parts.size(); ++i) {
    auto part =
        read_part({spec.prefix + spec.parts[i], spec.part_rows[i], spec.k, scheme, where}, tensors);
    if (!part) return part.error();
    parts.push_back(*std::move(part));
  }
  if (const Status s = check_alike(spec, parts, where); !s) return s.error();
  auto layout = std::make_shared<Layout>();
  layout->k_padded = (spec.k + kBlock - 1) / kBlock * kBlock;
  layout->group = scheme.group_size == 0 ? kBlock : std::min(scheme.group_size, kBlock);
  layout->has_zeros = std::any_of(parts.begin(), parts.end(),
                                  [](const StoredPart& part) { return part.zeros.defined(); });
  layout->order = order_of(parts[0].group_of);
  LinearWeight weight{&w4a16_format(), spec, {}, std::move(layout), nullptr};
  if (const Status s = add_tensors(parts, scheme, tensors, weight); !s) return s.error();
  return weight;
}

}  // namespace comet::formats::w4a16
