// The layouts of AutoGPTQ (and GPTQModel) and of AutoAWQ's "gemm": both store Wᵀ, so words, scales
// and zero points are turned round here, once (docs/formats.md, Interchange).
#include <algorithm>

#include "comet/formats/w4a16/stored_part.h"
#include "comet/formats/w4a16/w4a16.h"

namespace comet::formats::w4a16 {
namespace {

constexpr std::array kWords{DType::kI32};
constexpr std::array kScaleTypes{DType::kF16, DType::kBF16, DType::kF32};
constexpr int64_t kTile = 64;
/// AWQ: nibble i of a word is column 8j + kAwqColumn[i].
constexpr std::array<int, 8> kAwqColumn{0, 2, 4, 6, 1, 3, 5, 7};
constexpr std::array<int, 8> kInOrder{0, 1, 2, 3, 4, 5, 6, 7};

template <typename T>
void transpose(const T* in, int64_t rows, int64_t columns, T* out) {
  for (int64_t r0 = 0; r0 < rows; r0 += kTile) {
    for (int64_t c0 = 0; c0 < columns; c0 += kTile) {
      for (int64_t r = r0; r < std::min(rows, r0 + kTile); ++r) {
        for (int64_t c = c0; c < std::min(columns, c0 + kTile); ++c) {
          out[c * rows + r] = in[r * columns + c];
        }
      }
    }
  }
}

const uint32_t* words_of(const Tensor& tensor) {
  return reinterpret_cast<const uint32_t*>(tensor.raw());
}

Status check_sizes(const PartRequest& part) {
  if (part.rows % kWordCodes == 0 && part.k % kWordCodes == 0) return {};
  return make_error(ErrorCode::kUnsupported,
                    "{}'{}' is {} x {}; expected sizes that are multiples of 8", part.where,
                    part.name, part.rows, part.k);
}

/// [groups, rows] → [rows, groups].
Result<Tensor> read_scales(const PartRequest& part, const TensorSource& tensors) {
  const auto stored =
      tensors.get(part.name + ".scales", kScaleTypes, {part.num_groups(), part.rows});
  if (!stored) return stored.error();
  Tensor scales = allocate(stored->dtype(), {part.rows, part.num_groups()});
  if (stored->dtype() == DType::kF32) {
    transpose(stored->data<float>(), part.num_groups(), part.rows, scales.data<float>());
  } else {
    transpose(reinterpret_cast<const uint16_t*>(stored->raw()), part.num_groups(), part.rows,
              reinterpret_cast<uint16_t*>(scales.raw()));
  }
  return scales;
}

/// qzeros [groups, rows/8]: nibble i of word j belongs to row 8j + column[i].
Result<Tensor> read_zeros(const PartRequest& part, const TensorSource& tensors,
                          const std::array<int, 8>& column, uint32_t added) {
  const int64_t groups = part.num_groups();
  const auto packed = tensors.get(part.name + ".qzeros", kWords, {groups, part.rows / kWordCodes});
  if (!packed) return packed.error();
  Tensor zeros = allocate(DType::kU8, {part.rows, groups});
  for (int64_t g = 0; g < groups; ++g) {
    for (int64_t j = 0; j < part.rows / kWordCodes; ++j) {
      const uint32_t word = words_of(*packed)[g * (part.rows / kWordCodes) + j];
      for (int i = 0; i < kWordCodes; ++i) {
        const int64_t row = j * kWordCodes + column.at(static_cast<size_t>(i));
        zeros.data<uint8_t>()[row * groups + g] = ((word >> (4 * i) & 15U) + added) & 15U;
      }
    }
  }
  return zeros;
}

}  // namespace

/// qweight [k/8, rows]: 8 neighbouring channels in a word, as in w4a16, so whole words move.
Result<StoredPart> read_gptq(const PartRequest& part, const TensorSource& tensors) {
  if (const Status s = check_sizes(part); !s) return s.error();
  const int64_t row_words = part.k / kWordCodes;
  const auto packed = tensors.get(part.name + ".qweight", kWords, {row_words, part.rows});
  if (!packed) return packed.error();
  StoredPart stored;
  stored.words = allocate(DType::kI32, {part.rows, row_words});
  transpose(words_of(*packed), row_words, part.rows,
            reinterpret_cast<uint32_t*>(stored.words.raw()));
  auto scales = read_scales(part, tensors);
  if (!scales) return scales.error();
  stored.scales = *std::move(scales);
  auto zeros = read_zeros(part, tensors, kInOrder, part.scheme.zeros_less_one ? 1 : 0);
  if (!zeros) return zeros.error();
  stored.zeros = *std::move(zeros);
  if (!part.scheme.in_order && tensors.contains(part.name + ".g_idx")) {
    auto group_of = read_group_index(part, part.name + ".g_idx", tensors);
    if (!group_of) return group_of.error();
    stored.group_of = *std::move(group_of);
  }
  return stored;
}

/// qweight [k, rows/8]: 8 rows in a word, in AWQ's order.
Result<StoredPart> read_awq(const PartRequest& part, const TensorSource& tensors) {
  if (const Status s = check_sizes(part); !s) return s.error();
  const int64_t columns = part.rows / kWordCodes;
  const auto packed = tensors.get(part.name + ".qweight", kWords, {part.k, columns});
  if (!packed) return packed.error();
  StoredPart stored;
  const int64_t row_words = part.k / kWordCodes;
  stored.words = allocate(DType::kI32, {part.rows, row_words});
  auto* out = reinterpret_cast<uint32_t*>(stored.words.raw());
  for (int64_t w = 0; w < row_words; ++w) {
    for (int64_t j = 0; j < columns; ++j) {
      std::array<uint32_t, 8> rows{};
      for (int64_t i = 0; i < kWordCodes; ++i) {
        const uint32_t word = words_of(*packed)[(w * kWordCodes + i) * columns + j];
        for (size_t n = 0; n < rows.size(); ++n) rows[n] |= (word >> (4 * n) & 15U) << (4 * i);
      }
      for (size_t n = 0; n < rows.size(); ++n) {
        out[(j * kWordCodes + kAwqColumn.at(n)) * row_words + w] = rows[n];
      }
    }
  }
  auto scales = read_scales(part, tensors);
  if (!scales) return scales.error();
  stored.scales = *std::move(scales);
  auto zeros = read_zeros(part, tensors, kAwqColumn, 0);
  if (!zeros) return zeros.error();
  stored.zeros = *std::move(zeros);
  return stored;
}

}  // namespace comet::formats::w4a16
