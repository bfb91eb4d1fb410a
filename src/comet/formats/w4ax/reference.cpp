// The scalar reference of w4ax, straight from docs/formats.md §1: no blocking, no tricks.
#include <algorithm>
#include <cmath>

#include "comet/formats/w4ax/layout.h"
#include "comet/formats/w4ax/w4ax.h"

namespace comet::formats::w4ax {
namespace {

constexpr int64_t kChainBlocks = 8;

struct Operands {
  const LinearWeight& weight;
  const Meta& meta;
  const Activation& x;
  int64_t blocks;

  /// q_w, or w8 = u·g + o for progressive weights.
  [[nodiscard]] int64_t code(int64_t row, int64_t k) const {
    const NibblePosition p = nibble_position(row, k, blocks);
    const int nibble = weight.tensors[kPacked].data<uint8_t>()[p.byte] >> p.shift & 15;
    if (meta.granularity != Granularity::kProgressive) return sign_extend4(nibble);
    const int64_t group = k / kBlock * meta.num_stored_rows() + row;
    return int64_t{nibble} * weight.tensors[kMultiplier].data<uint8_t>()[group] +
           weight.tensors[kOffset].data<int8_t>()[group];
  }
  /// Σ q_w·q_x over blocks [begin, end).
  [[nodiscard]] float block_sum(int64_t token, int64_t row, int64_t begin, int64_t end) const {
    const int8_t* codes = x.parts[kCodes].data<int8_t>() + token * blocks * kBlock;
    int64_t sum = 0;
    for (int64_t k = begin * kBlock; k < end * kBlock; ++k) sum += code(row, k) * codes[k];
    return static_cast<float>(static_cast<int32_t>(sum));
  }
};

float two_segments(const Operands& op, int64_t token, int64_t row) {
  const float* scales = op.x.parts[kScales].data<float>() + token * 2;
  const int64_t int4_blocks = op.blocks - op.meta.site.int8_blocks;
  if (int4_blocks == 0) return scales[1] * op.block_sum(token, row, 0, op.blocks);
  const float sum4 = op.block_sum(token, row, 0, int4_blocks);
  if (int4_blocks == op.blocks) return scales[0] * sum4;
  return std::fmaf(scales[1], op.block_sum(token, row, int4_blocks, op.blocks), scales[0] * sum4);
}

float chains(const Operands& op, int64_t token, int64_t row) {
  const bool per_block = op.meta.site.scale == ActScale::kS1;
  const float* scales = op.x.parts[kScales].data<float>() + token * (per_block ? op.blocks : 2);
  const int64_t int4_blocks = op.blocks - op.meta.site.int8_blocks;
  float total = 0;
  for (int64_t begin = 0; begin < op.blocks; begin += kChainBlocks) {
    float chain = 0;
    for (int64_t b = begin; b < std::min(begin + kChainBlocks, op.blocks); ++b) {
      float scale = scales[per_block ? b : (b < int4_blocks ? 0 : 1)];
      if (op.meta.granularity == Granularity::kGroup) {
        const int64_t group = b * op.meta.num_stored_rows() + row;
        scale *= to_float(op.weight.tensors[kGroupScale].data<Float16>()[group]);
      }
      chain = std::fmaf(scale, op.block_sum(token, row, b, b + 1), chain);
    }
    total += chain;
  }
  return total;
}

float bias_of(const Tensor& bias, int64_t i) {
  if (bias.dtype() == DType::kBF16) return to_float(bias.data<BFloat16>()[i]);
  if (bias.dtype() == DType::kF16) return to_float(bias.data<Float16>()[i]);
  return bias.data<float>()[i];
}

}  // namespace

void reference_linear(const LinearWeight& weight, const Activation& x, View<float, 2> out) {
  const Meta& meta = meta_of(weight);
  const Operands op{weight, meta, x, meta.site.num_blocks()};
  const bool group = meta.granularity == Granularity::kGroup;
  const bool chained = group || meta.site.scale == ActScale::kS1;
  for (int64_t token = 0; token < x.rows; ++token) {
    for (size_t tile = 0; tile < meta.tiles.size(); ++tile) {
      for (int64_t i = 0; i < meta.tiles[tile].num_rows; ++i) {
        const int64_t row = static_cast<int64_t>(tile) * kTileRows + i;
        const int64_t column = meta.tiles[tile].column + i;
        float y = chained ? chains(op, token, row) : two_segments(op, token, row);
        if (!group) y = weight.tensors[kChannelScale].data<float>()[row] * y;
        if (weight.tensors[kBias].defined()) y += bias_of(weight.tensors[kBias], column);
        out(token, column) = y;
      }
    }
  }
}

}  // namespace comet::formats::w4ax
