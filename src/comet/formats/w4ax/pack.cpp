// pack and unpack of w4ax: exact inverses.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "comet/formats/w4ax/layout.h"
#include "comet/formats/w4ax/w4ax.h"
#include "comet/formats/weight_scales.h"

namespace comet::formats::w4ax {
namespace {

Tensor zeros(DType dtype, const Shape& shape) {
  Tensor tensor(
      std::make_shared<Storage>(host_allocator(),
                                static_cast<size_t>(shape.num_elements() * dtype_bytes(dtype))),
      0, dtype, shape);
  std::memset(tensor.raw(), 0, static_cast<size_t>(tensor.num_bytes()));
  return tensor;
}

/// The shortest decimal that reads back as this float: 0.9, not 0.8999999761581421.
double shortest_decimal(float x) {
  std::array<char, 32> text{};
  const auto end = std::to_chars(text.data(), text.data() + text.size() - 1, x);
  *end.ptr = '\0';
  return std::strtod(text.data(), nullptr);
}

size_t groups_of(const QuantizedWeight& weight) {
  return static_cast<size_t>(weight.site.num_blocks() * weight.num_rows());
}

bool fits_float16(float scale) {
  return !std::isfinite(scale) || to_float(to_float16(scale)) == scale;
}

void check_sizes(const QuantizedWeight& weight) {
  const SiteLayout& site = weight.site;
  const auto rows = static_cast<size_t>(weight.num_rows());
  const bool group = weight.granularity == Granularity::kGroup;
  const bool progressive = weight.granularity == Granularity::kProgressive;
  COMET_CHECK(site.k >= 1 && site.k_padded == round_up(site.k, kBlock), "{}: k {}, padded {}",
              weight.name, site.k, site.k_padded);
  COMET_CHECK(site.int8_blocks >= 0 && site.int8_blocks <= site.num_blocks(), "{}: {} INT8 blocks",
              weight.name, site.int8_blocks);
  COMET_CHECK(site.perm.empty() || site.perm.size() == static_cast<size_t>(site.k_padded),
              "{}: permutation of {}", weight.name, site.perm.size());
  COMET_CHECK(weight.parts.size() == weight.part_rows.size(), "{}", weight.name);
  COMET_CHECK(weight.codes.size() == rows * static_cast<size_t>(site.k_padded), "{}: {} codes",
              weight.name, weight.codes.size());
  COMET_CHECK(weight.channel_scale.size() == (group ? 0 : rows), "{}", weight.name);
  COMET_CHECK(weight.group_scale.size() == (group ? groups_of(weight) : 0), "{}", weight.name);
  COMET_CHECK(weight.scale_type == DType::kF16 &&
                  std::all_of(weight.group_scale.begin(), weight.group_scale.end(), fits_float16),
              "{}: group scales that FP16 does not hold", weight.name);
  COMET_CHECK(weight.group_multiplier.size() == (progressive ? groups_of(weight) : 0), "{}",
              weight.name);
  COMET_CHECK(weight.group_offset.size() == weight.group_multiplier.size(), "{}", weight.name);
  COMET_CHECK(weight.bias.empty() || weight.bias.size() == rows, "{}", weight.name);
}

Status check_values(const QuantizedWeight& weight) {
  if (weight.site.k > kMaxChannels) {
    return make_error(ErrorCode::kUnsupported, "'{}': k = {}; w4ax holds at most {} channels",
                      weight.name, weight.site.k, kMaxChannels);
  }
  if (const Status finite = check_finite_scales(weight); !finite) return finite;
  const bool progressive = weight.granularity == Granularity::kProgressive;
  const int low = progressive ? 0 : -8;
  const int high = progressive ? 15 : 7;
  COMET_CHECK(std::all_of(weight.codes.begin(), weight.codes.end(),
                          [&](int8_t q) { return q >= low && q <= high; }),
              "{}: a code lies outside [{}, {}]", weight.name, low, high);
  COMET_CHECK(std::all_of(weight.group_multiplier.begin(), weight.group_multiplier.end(),
                          [](uint8_t g) { return g >= 1 && g <= 16; }),
              "{}: a group multiplier lies outside [1, 16]", weight.name);
  return {};
}

bool is_identity(const SiteLayout& site) {
  for (size_t i = 0; i < site.perm.size(); ++i) {
    if (site.perm[i] != (static_cast<int64_t>(i) < site.k ? static_cast<int32_t>(i) : -1)) {
      return false;
    }
  }
  return true;
}

/// Stored rows of a matrix whose rows are output channels: calls body(stored row, output row).
template <typename Body>
void for_each_row(const std::vector<RowTile>& tiles, Body&& body) {
  for (size_t tile = 0; tile < tiles.size(); ++tile) {
    for (int64_t i = 0; i < tiles[tile].num_rows; ++i) {
      body(static_cast<int64_t>(tile) * kTileRows + i, tiles[tile].column + i);
    }
  }
}

/// Copies [blocks, rows] to [blocks, stored rows] (or back, `to_stored` false).
template <typename T>
void copy_groups(const std::vector<RowTile>& tiles, int64_t blocks, int64_t rows, T* plain,
                 T* stored, bool to_stored) {
  const int64_t stored_rows = static_cast<int64_t>(tiles.size()) * kTileRows;
  for (int64_t b = 0; b < blocks; ++b) {
    for_each_row(tiles, [&](int64_t at, int64_t row) {
      T& p = plain[b * rows + row];
      T& s = stored[b * stored_rows + at];
      (to_stored ? s : p) = to_stored ? p : s;
    });
  }
}

Tensor pack_codes(const QuantizedWeight& weight, const std::vector<RowTile>& tiles) {
  const int64_t k = weight.site.k_padded;
  const int64_t blocks = weight.site.num_blocks();
  Tensor packed = zeros(DType::kU8, {static_cast<int64_t>(tiles.size()), blocks, kTileBytes});
  uint8_t* bytes = packed.data<uint8_t>();
  for_each_row(tiles, [&](int64_t at, int64_t row) {
    const int8_t* codes = weight.codes.data() + row * k;
    for (int64_t i = 0; i < k; ++i) {
      const NibblePosition p = nibble_position(at, i, blocks);
      bytes[p.byte] |= static_cast<uint8_t>((codes[i] & 15) << p.shift);
    }
  });
  return packed;
}

}  // namespace

void describe(const QuantizedWeight& weight, PackedLinear& packed) {
  const SiteLayout& site = weight.site;
  packed.site = {{"name", site.name},
                 {"k", site.k},
                 {"k_padded", site.k_padded},
                 {"int8_blocks", site.int8_blocks},
                 {"clip", shortest_decimal(site.clip)}};
  packed.linear = {{"name", weight.name},
                   {"site", site.name},
                   {"parts", weight.parts},
                   {"rows", weight.part_rows}};
}

Result<PackedLinear> pack(const QuantizedWeight& weight) {
  check_sizes(weight);
  if (const Status s = check_values(weight); !s) return s.error();
  const std::vector<RowTile> tiles = row_tiles(weight.part_rows);
  const int64_t rows = weight.num_rows();
  const int64_t stored_rows = static_cast<int64_t>(tiles.size()) * kTileRows;
  const int64_t blocks = weight.site.num_blocks();
  PackedLinear packed;
  const auto add = [&](const std::string& suffix, Tensor tensor) {
    packed.tensors.emplace_back(weight.name + suffix, std::move(tensor));
  };
  add(".weight_packed", pack_codes(weight, tiles));
  if (weight.granularity == Granularity::kGroup) {
    Tensor scales = zeros(DType::kF16, {blocks, stored_rows});
    std::vector<Float16> plain;
    plain.reserve(weight.group_scale.size());
    for (const float scale : weight.group_scale) plain.push_back(to_float16(scale));
    copy_groups<Float16>(tiles, blocks, rows, plain.data(), scales.data<Float16>(), true);
    add(".weight_scale", std::move(scales));
  } else {
    Tensor scales = zeros(DType::kF32, {stored_rows});
    copy_groups<float>(tiles, 1, rows, const_cast<float*>(weight.channel_scale.data()),
                       scales.data<float>(), true);
    add(".weight_scale", std::move(scales));
  }
  if (weight.granularity == Granularity::kProgressive) {
    Tensor multipliers = zeros(DType::kU8, {blocks, stored_rows});
    Tensor offsets = zeros(DType::kI8, {blocks, stored_rows});
    copy_groups<uint8_t>(tiles, blocks, rows, const_cast<uint8_t*>(weight.group_multiplier.data()),
                         multipliers.data<uint8_t>(), true);
    copy_groups<int8_t>(tiles, blocks, rows, const_cast<int8_t*>(weight.group_offset.data()),
                        offsets.data<int8_t>(), true);
    add(".group_scale", std::move(multipliers));
    add(".group_offset", std::move(offsets));
  }
  if (!weight.bias.empty()) {
    Tensor bias = zeros(DType::kF32, {rows});
    std::copy(weight.bias.begin(), weight.bias.end(), bias.data<float>());
    add(".bias", std::move(bias));
  }
  if (!is_identity(weight.site)) {
    Tensor perm = zeros(DType::kI32, {weight.site.k_padded});
    std::copy(weight.site.perm.begin(), weight.site.perm.end(), perm.data<int32_t>());
    packed.tensors.emplace_back(weight.site.name + ".perm", std::move(perm));
  }
  describe(weight, packed);
  return packed;
}

namespace {

void unpack_codes(const LinearWeight& bound, const Meta& meta, QuantizedWeight& weight) {
  const int64_t k = meta.site.k_padded;
  const int64_t blocks = meta.site.num_blocks();
  const uint8_t* bytes = bound.tensors[kPacked].data<uint8_t>();
  const bool is_unsigned = meta.granularity == Granularity::kProgressive;
  weight.codes.resize(static_cast<size_t>(weight.num_rows() * k));
  for_each_row(meta.tiles, [&](int64_t at, int64_t row) {
    for (int64_t i = 0; i < k; ++i) {
      const NibblePosition p = nibble_position(at, i, blocks);
      const int nibble = bytes[p.byte] >> p.shift & 15;
      weight.codes[static_cast<size_t>(row * k + i)] =
          static_cast<int8_t>(is_unsigned ? nibble : sign_extend4(nibble));
    }
  });
}

void unpack_bias(const Tensor& bias, std::vector<float>& out) {
  for (int64_t i = 0; i < bias.num_elements(); ++i) {
    switch (bias.dtype()) {
      case DType::kBF16:
        out.push_back(to_float(bias.data<BFloat16>()[i]));
        break;
      case DType::kF16:
        out.push_back(to_float(bias.data<Float16>()[i]));
        break;
      default:
        out.push_back(bias.data<float>()[i]);
    }
  }
}

}  // namespace

Result<QuantizedWeight> unpack(const LinearWeight& bound) {
  const Meta& meta = meta_of(bound);
  const int64_t blocks = meta.site.num_blocks();
  QuantizedWeight weight;
  weight.name = bound.spec.name;
  weight.parts = bound.spec.parts;
  weight.part_rows = bound.spec.part_rows;
  weight.site = meta.site;
  if (is_identity(weight.site)) weight.site.perm.clear();
  weight.granularity = meta.granularity;
  const int64_t rows = weight.num_rows();
  unpack_codes(bound, meta, weight);
  if (meta.granularity == Granularity::kGroup) {
    std::vector<Float16> plain(groups_of(weight));
    copy_groups<Float16>(meta.tiles, blocks, rows, plain.data(),
                         bound.tensors[kGroupScale].data<Float16>(), false);
    for (const Float16 scale : plain) weight.group_scale.push_back(to_float(scale));
  } else {
    weight.channel_scale.resize(static_cast<size_t>(rows));
    copy_groups<float>(meta.tiles, 1, rows, weight.channel_scale.data(),
                       bound.tensors[kChannelScale].data<float>(), false);
  }
  if (meta.granularity == Granularity::kProgressive) {
    weight.group_multiplier.resize(groups_of(weight));
    weight.group_offset.resize(groups_of(weight));
    copy_groups<uint8_t>(meta.tiles, blocks, rows, weight.group_multiplier.data(),
                         bound.tensors[kMultiplier].data<uint8_t>(), false);
    copy_groups<int8_t>(meta.tiles, blocks, rows, weight.group_offset.data(),
                        bound.tensors[kOffset].data<int8_t>(), false);
  }
  if (bound.tensors[kBias].defined()) unpack_bias(bound.tensors[kBias], weight.bias);
  return weight;
}

}  // namespace comet::formats::w4ax
