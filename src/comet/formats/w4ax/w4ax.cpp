#include "comet/formats/w4ax/w4ax.h"

#include <algorithm>

#include "comet/formats/w4ax/layout.h"

namespace comet::formats {
namespace w4ax {
namespace {

Status check_entry(const LinearSpec& spec, const Config& config, const LinearEntry& entry,
                   const SiteLayout& site) {
  if (entry.parts != spec.parts || entry.rows != spec.part_rows) {
    return make_error(ErrorCode::kCorrupt,
                      "{}: quantization_config says that '{}' holds [{}] with rows [{}], but the "
                      "model needs [{}] with rows [{}]",
                      config.source, spec.name, fmt::join(entry.parts, ", "),
                      fmt::join(entry.rows, ", "), fmt::join(spec.parts, ", "),
                      fmt::join(spec.part_rows, ", "));
  }
  if (site.k != spec.k) {
    return make_error(ErrorCode::kCorrupt,
                      "{}: quantization_config says that site '{}' has k = {}, but '{}' has {}",
                      config.source, site.name, site.k, spec.name, spec.k);
  }
  return {};
}

/// Appends the tensor `name` to the slot; an undefined tensor when it does not exist and may not.
Status bind_tensor(const TensorSource& tensors, const std::string& name, DType dtype,
                   const Shape& shape, Tensor& slot) {
  const std::array<DType, 1> dtypes{dtype};
  auto tensor = tensors.get(name, dtypes, shape);
  if (!tensor) return tensor.error();
  slot = std::move(*tensor);
  return {};
}

/// Kernels hold w8 = u·g + o in 8 bits. Only a group whose largest code could leave them is read.
Status check_levels(const std::string& name, const Meta& meta, const std::vector<Tensor>& slots) {
  constexpr int kMaxCode = 15;
  constexpr int kMaxLevel = 127;
  const int64_t rows = meta.num_stored_rows();
  const int64_t blocks = meta.site.num_blocks();
  const uint8_t* packed = slots[kPacked].data<uint8_t>();
  for (int64_t group = 0; group < blocks * rows; ++group) {
    const int g = slots[kMultiplier].data<uint8_t>()[group];
    const int o{slots[kOffset].data<int8_t>()[group]};
    if (kMaxCode * g + o <= kMaxLevel) continue;
    for (int64_t k = group / rows * kBlock; k < (group / rows + 1) * kBlock; ++k) {
      const NibblePosition p = nibble_position(group % rows, k, blocks);
      const int u = packed[p.byte] >> p.shift & 15;
      if (u * g + o <= kMaxLevel) continue;
      return make_error(ErrorCode::kCorrupt,
                        "{}.group_offset: code {} at stored row {}, channel {} stands for "
                        "{}·{} + {} = {}; expected at most {}: the file is damaged, quantize again",
                        name, u, group % rows, k, u, g, o, u * g + o, kMaxLevel);
    }
  }
  return {};
}

Status bind_scales(const TensorSource& tensors, const std::string& name, const Meta& meta,
                   std::vector<Tensor>& slots) {
  const int64_t rows = meta.num_stored_rows();
  const Shape groups{meta.site.num_blocks(), rows};
  if (meta.granularity == Granularity::kGroup) {
    return bind_tensor(tensors, name + ".weight_scale", DType::kF16, groups, slots[kGroupScale]);
  }
  Status status =
      bind_tensor(tensors, name + ".weight_scale", DType::kF32, {rows}, slots[kChannelScale]);
  if (!status || meta.granularity == Granularity::kChannel) return status;
  status = bind_tensor(tensors, name + ".group_scale", DType::kU8, groups, slots[kMultiplier]);
  if (!status) return status;
  const uint8_t* g = slots[kMultiplier].data<uint8_t>();
  if (std::any_of(g, g + groups.num_elements(), [](uint8_t value) { return value > 16; })) {
    return make_error(ErrorCode::kCorrupt, "{}.group_scale: holds a value above 16", name);
  }
  status = bind_tensor(tensors, name + ".group_offset", DType::kI8, groups, slots[kOffset]);
  return status ? check_levels(name, meta, slots) : status;
}

/// Reads <site>.perm where it exists: each source channel at most once, all in range.
Status bind_perm(const TensorSource& tensors, const Config& config, SiteLayout& site) {
  const std::string name = site.name + ".perm";
  if (!tensors.contains(name)) return {};
  Tensor tensor;
  Status status = bind_tensor(tensors, name, DType::kI32, {site.k_padded}, tensor);
  if (!status) return status;
  const int32_t* perm = tensor.data<int32_t>();
  std::vector<bool> seen(static_cast<size_t>(site.k), false);
  for (int64_t i = 0; i < site.k_padded; ++i) {
    if (perm[i] == -1) continue;
    if (perm[i] < 0 || perm[i] >= site.k || seen[static_cast<size_t>(perm[i])]) {
      return make_error(ErrorCode::kCorrupt,
                        "{}: tensor '{}' names channel {} at position {}; expected each of 0 to {} "
                        "at most once, or -1",
                        config.source, name, perm[i], i, site.k - 1);
    }
    seen[static_cast<size_t>(perm[i])] = true;
  }
  site.perm.assign(perm, perm + site.k_padded);
  return {};
}

Result<LinearWeight> bind(const LinearSpec& spec, const FormatConfig* format_config,
                          const TensorSource& tensors) {
  const auto* config = dynamic_cast<const Config*>(format_config);
  COMET_CHECK(config != nullptr, "'{}': w4ax needs its own parsed config", spec.name);
  const LinearEntry* entry = config->find_linear(spec.name);
  if (entry == nullptr) {
    return make_error(ErrorCode::kNotFound,
                      "{}: quantization_config.linears lacks '{}', which the model needs",
                      config->source, spec.name);
  }
  const SiteLayout* site = config->find_site(entry->site);
  COMET_CHECK(site != nullptr, "site '{}' was checked", entry->site);
  if (const Status s = check_entry(spec, *config, *entry, *site); !s) return s.error();

  auto meta = std::make_shared<Meta>();
  meta->site = *site;
  meta->granularity = config->granularity;
  meta->tiles = row_tiles(spec.part_rows);
  if (const Status s = bind_perm(tensors, *config, meta->site); !s) return s.error();

  LinearWeight weight{&w4ax_format(), spec, std::vector<Tensor>(kNumTensors), nullptr, nullptr};
  const Shape packed{static_cast<int64_t>(meta->tiles.size()), site->num_blocks(), kTileBytes};
  if (const Status s = bind_tensor(tensors, spec.name + ".weight_packed", DType::kU8, packed,
                                   weight.tensors[kPacked]);
      !s) {
    return s.error();
  }
  if (const Status s = bind_scales(tensors, spec.name, *meta, weight.tensors); !s) {
    return s.error();
  }
  if (spec.has_bias) {
    const std::array<DType, 3> floats{DType::kF32, DType::kBF16, DType::kF16};
    auto bias = tensors.get(spec.name + ".bias", floats, {spec.n()});
    if (!bias) return bias.error();
    weight.tensors[kBias] = std::move(*bias);
  }
  weight.meta = std::move(meta);
  return weight;
}

LinearTraits traits(const LinearWeight& weight) {
  const Meta& meta = meta_of(weight);
  return {act_scale_name(meta.site.scale), granularity_name(meta.granularity),
          meta.site.num_blocks() - meta.site.int8_blocks, meta.site.num_blocks()};
}

}  // namespace

const Meta& meta_of(const LinearWeight& weight) {
  const auto* meta = dynamic_cast<const Meta*>(weight.meta.get());
  COMET_CHECK(meta != nullptr, "'{}' is not a bound w4ax linear", weight.spec.name);
  return *meta;
}

std::vector<RowTile> row_tiles(std::span<const int64_t> part_rows) {
  std::vector<RowTile> tiles;
  int64_t column = 0;
  for (const int64_t rows : part_rows) {
    for (int64_t begin = 0; begin < rows; begin += kTileRows) {
      tiles.push_back({column + begin, std::min(kTileRows, rows - begin)});
    }
    column += rows;
  }
  return tiles;
}

int64_t packed_size(std::span<const int64_t> part_rows, int64_t k_padded) {
  return static_cast<int64_t>(row_tiles(part_rows).size()) * (k_padded / kBlock) * kTileBytes;
}

}  // namespace w4ax

const WeightFormat& w4ax_format() {
  static const WeightFormat format{
      .name = "w4ax",
      .version = w4ax::kVersion,
      .parse_config = w4ax::parse_config,
      .bind = w4ax::bind,
      .pack = w4ax::pack,
      .unpack = w4ax::unpack,
      .reference_linear = w4ax::reference_linear,
      .cpu = {.input_from_rows = w4ax::input_from_rows,
              .input_from_norm = w4ax::input_from_norm,
              .input_from_silu_mul = w4ax::input_from_silu_mul,
              .kernels = w4ax::kernels()},
      .cuda = w4ax_cuda_backend(),
      .traits = w4ax::traits,
      .manifest = w4ax::manifest,
      .disk_format = "w4ax",
  };
  return format;
}

}  // namespace comet::formats
