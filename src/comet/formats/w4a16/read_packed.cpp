// compressed-tensors' "pack-quantized": weight_packed, weight_scale, weight_shape, and where the
// scheme has them weight_zero_point (packed along the rows; old files: s8) and weight_g_idx.
#include <algorithm>

#include "comet/formats/w4a16/stored_part.h"
#include "comet/formats/w4a16/w4a16.h"

namespace comet::formats::w4a16 {
namespace {

constexpr std::array kScaleTypes{DType::kBF16, DType::kF16, DType::kF32};

Status check_shape(const PartRequest& part, const TensorSource& tensors) {
  const std::array<DType, 2> integers{DType::kI64, DType::kI32};
  const std::string name = part.name + ".weight_shape";
  const auto shape = tensors.get(name, integers, Shape{2});
  if (!shape) return shape.error();
  const bool wide = shape->dtype() == DType::kI64;
  const auto size = [&](int i) {
    return wide ? shape->data<int64_t>()[i] : int64_t{shape->data<int32_t>()[i]};
  };
  if (size(0) != part.rows || size(1) != part.k) {
    return make_error(ErrorCode::kCorrupt, "{}tensor '{}' is [{}, {}]; expected [{}, {}]",
                      part.where, name, size(0), size(1), part.rows, part.k);
  }
  return {};
}

/// Nibble i of word j of a column is row 8j + i.
Result<Tensor> unpack_zeros(const PartRequest& part, const TensorSource& tensors) {
  const std::string name = part.name + ".weight_zero_point";
  const int64_t groups = part.num_groups();
  Tensor zeros = allocate(DType::kU8, {part.rows, groups});
  auto* out = zeros.data<uint8_t>();
  const std::array<DType, 1> bytes{DType::kI8};
  if (const auto plain = tensors.get(name, bytes, Shape{part.rows, groups}); plain) {
    const int8_t* in = plain->data<int8_t>();
    for (int64_t i = 0; i < zeros.num_elements(); ++i) {
      if (in[i] < -kCodeOffset || in[i] >= kCodeOffset) {
        return make_error(ErrorCode::kCorrupt,
                          "{}tensor '{}': element {} is {}; expected zero points in [-8, 7]",
                          part.where, name, i, int{in[i]});
      }
      out[i] = static_cast<uint8_t>(in[i] + kCodeOffset);
    }
    return zeros;
  }
  const std::array<DType, 1> words{DType::kI32};
  const int64_t word_rows = (part.rows + kWordCodes - 1) / kWordCodes;
  const auto packed = tensors.get(name, words, Shape{word_rows, groups});
  if (!packed) return packed.error();
  const auto* in = reinterpret_cast<const uint32_t*>(packed->raw());
  for (int64_t row = 0; row < part.rows; ++row) {
    for (int64_t g = 0; g < groups; ++g) {
      out[row * groups + g] = in[row / kWordCodes * groups + g] >> (4 * (row % kWordCodes)) & 15U;
    }
  }
  return zeros;
}

}  // namespace

Tensor allocate(DType dtype, const Shape& shape) {
  return allocate_tensor(host_allocator(), dtype, shape);
}

Result<std::vector<int32_t>> read_group_index(const PartRequest& part, const std::string& name,
                                              const TensorSource& tensors) {
  const std::array<DType, 1> integers{DType::kI32};
  const auto tensor = tensors.get(name, integers, Shape{part.k});
  if (!tensor) return tensor.error();
  const int32_t* index = tensor->data<int32_t>();
  // compressed-tensors fills it with −1 where channels are in order.
  if (std::all_of(index, index + part.k, [](int32_t g) { return g == -1; })) {
    return std::vector<int32_t>();
  }
  const int64_t groups = part.num_groups();
  const int64_t size = part.k / groups;
  std::vector<int64_t> members(static_cast<size_t>(groups), 0);
  bool in_order = true;
  for (int64_t i = 0; i < part.k; ++i) {
    if (index[i] < 0 || index[i] >= groups) {
      return make_error(ErrorCode::kCorrupt,
                        "{}tensor '{}': element {} is {}; expected groups 0 to {}", part.where,
                        name, i, index[i], groups - 1);
    }
    ++members[static_cast<size_t>(index[i])];
    in_order = in_order && index[i] == i / size;
  }
  for (int64_t g = 0; g < groups; ++g) {
    if (members[static_cast<size_t>(g)] == size) continue;
    return make_error(ErrorCode::kCorrupt,
                      "{}tensor '{}': group {} has {} channels; expected {} in each", part.where,
                      name, g, members[static_cast<size_t>(g)], size);
  }
  return in_order ? std::vector<int32_t>() : std::vector<int32_t>(index, index + part.k);
}

Result<StoredPart> read_pack_quantized(const PartRequest& part, const TensorSource& tensors) {
  StoredPart stored;
  if (const Status s = check_shape(part, tensors); !s) return s.error();
  constexpr std::array kWords{DType::kI32};
  auto words = tensors.get(part.name + ".weight_packed", kWords,
                           {part.rows, (part.k + kWordCodes - 1) / kWordCodes});
  if (!words) return words.error();
  stored.words = *std::move(words);
  auto scales =
      tensors.get(part.name + ".weight_scale", kScaleTypes, {part.rows, part.num_groups()});
  if (!scales) return scales.error();
  stored.scales = *std::move(scales);
  const std::string zero_name = part.name + ".weight_zero_point";
  if (!part.scheme.symmetric) {
    auto zeros = unpack_zeros(part, tensors);
    if (!zeros) return zeros.error();
    stored.zeros = *std::move(zeros);
  } else if (tensors.contains(zero_name)) {
    return make_error(ErrorCode::kCorrupt,
                      "{}tensor '{}' is there, but the weights are symmetric; expected "
                      "\"symmetric\": false in quantization_config",
                      part.where, zero_name);
  }
  const std::string index_name = part.name + ".weight_g_idx";
  if (tensors.contains(index_name)) {
    auto group_of = read_group_index(part, index_name, tensors);
    if (!group_of) return group_of.error();
    stored.group_of = *std::move(group_of);
  }
  return stored;
}

}  // namespace comet::formats::w4a16
