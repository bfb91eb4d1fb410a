// Random operands of w4ax's products on the device, and what mma makes of them. Callers: the CUDA
// tests of this folder.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "comet/base/rng.h"
#include "comet/formats/w4ax/cuda/gemm_mma.h"
#include "support/gpu.h"

namespace comet::formats::w4ax::cuda {

/// Bytes least … most.
inline std::vector<uint8_t> random_bytes(int64_t count, uint64_t seed, int least, int most) {
  Rng rng(seed);
  std::vector<uint8_t> bytes(static_cast<size_t>(count));
  const auto num_values = static_cast<uint64_t>(most - least) + 1;
  for (uint8_t& byte : bytes) {
    byte = static_cast<uint8_t>(least + static_cast<int>(rng.next_below(num_values)));
  }
  return bytes;
}

/// Of both signs, a quarter of them negative.
inline std::vector<float> random_floats(int64_t count, uint64_t seed) {
  Rng rng(seed);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = (rng.next_uniform() - 0.25F) * 0.01F;
  return values;
}

/// A million random bytes least … most, again and again.
inline void fill(const testing::DeviceArray<uint8_t>& bytes, uint64_t seed, int least, int most) {
  const auto own = random_bytes(static_cast<int64_t>(std::min(bytes.bytes(), size_t{1} << 20)),
                                seed, least, most);
  for (size_t at = 0; at < bytes.bytes(); at += own.size()) {
    COMET_CUDA(cudaMemcpy(bytes.get() + at, own.data(), std::min(own.size(), bytes.bytes() - at),
                          cudaMemcpyHostToDevice));
  }
}

/// F16 of both signs, from 2⁻⁹ to 2⁻⁶.
inline std::vector<uint16_t> random_group_scales(int64_t count, uint64_t seed) {
  Rng rng(seed);
  std::vector<uint16_t> scales(static_cast<size_t>(count));
  for (uint16_t& scale : scales) {
    const uint64_t bits = rng.next_below(3 * 1024) + 6 * 1024;
    scale = static_cast<uint16_t>(bits | (rng.next_below(4) == 0 ? 0x8000U : 0U));
  }
  return scales;
}

/// Tiles of `rows` outputs each, one behind the other; `last_rows` of the last, else as many.
inline std::vector<OutputTile> tiles_of(int32_t count, int32_t rows, int32_t last_rows = 0) {
  std::vector<OutputTile> tiles;
  for (int32_t i = 0; i < count; ++i) tiles.push_back({i * rows, rows});
  if (last_rows > 0) tiles.back().num_rows = last_rows;
  return tiles;
}

/// What a product of random operands is like.
struct ProductShape {
  WeightKind kind = WeightKind::kChannel;
  bool block_scales = false;  // S1; else S2
  int32_t num_tiles = 1;
  int32_t last_rows = 128;  // of the last packed tile
  int32_t blocks = 1;
  int32_t int4_blocks = 0;
  int32_t tokens = 1;
  bool has_bias = false;
  bool out_is_bf16 = true;
  int32_t padding = 0;  // columns of the output beyond those of the product

  [[nodiscard]] int64_t num_columns() const { return int64_t{num_tiles - 1} * 128 + last_rows; }
  [[nodiscard]] std::string text() const {
    return std::to_string(tokens) + " x " + std::to_string(num_columns()) + " x " +
           std::to_string(blocks) + " blocks, " + std::to_string(int4_blocks) + " INT4" +
           (kind == WeightKind::kChannel ? ", channel"
            : kind == WeightKind::kGroup ? ", group"
                                         : ", progressive") +
           (block_scales ? ", S1" : ", S2") + (has_bias ? ", bias" : "") +
           (out_is_bf16 ? "" : ", F32") + ", padding " + std::to_string(padding);
  }
};

/// Operands on the device, and what mma makes of them.
struct MmaProduct {
  MmaProduct(const ProductShape& shape, const CudaResources& gpu)
      : rows(int64_t{shape.num_tiles} * 128),
        packed(random_bytes(rows * shape.blocks * 64, 1, 0, 255)),
        multiplier(random_bytes(rows * shape.blocks, 2, 1, 8)),
        offset(random_bytes(rows * shape.blocks, 3, 0, 7)),
        codes(random_bytes(int64_t{shape.tokens} * shape.blocks * 128, 4, 0, 255)),
        group_scale(random_group_scales(rows * shape.blocks, 8)),
        channel_scale(random_floats(rows, 5)),
        x_scales(random_floats(int64_t{shape.tokens} * (shape.block_scales ? shape.blocks : 2), 6)),
        bias(random_floats(shape.num_columns(), 7)),
        tiles(tiles_of(shape.num_tiles, 128, shape.last_rows)),
        counters(std::vector<int32_t>(static_cast<size_t>(kNumCounters), 0)),
        workspace(size_t{64} << 20),
        out(static_cast<size_t>(shape.tokens * (shape.num_columns() + shape.padding) *
                                (shape.out_is_bf16 ? 2 : 4))) {
    args.kind = shape.kind;
    args.packed = packed.get();
    if (shape.kind == WeightKind::kGroup) {
      args.group_scale = group_scale.get();
    } else {
      args.channel_scale = channel_scale.get();
    }
    args.multiplier = multiplier.get();
    args.offset = reinterpret_cast<const int8_t*>(offset.get());
    if (shape.has_bias) args.bias = bias.get();
    args.tiles = tiles.get();
    args.num_tiles = shape.num_tiles;
    args.blocks = shape.blocks;
    args.int4_blocks = shape.int4_blocks;
    args.block_scales = shape.block_scales;
    args.out_is_bf16 = shape.out_is_bf16;
    args.tokens = shape.tokens;
    args.codes = reinterpret_cast<const int8_t*>(codes.get());
    args.x_scales = x_scales.get();
    args.out = out.get();
    args.out_stride = shape.num_columns() + shape.padding;
    gemm_mma(args, plan_gemm(args, gpu.num_sms), workspace.get(), counters.get(), gpu.stream);
    want = outputs(gpu);
  }

  /// Outputs; they and the workspace are poisoned behind it.
  [[nodiscard]] std::vector<uint8_t> outputs(const CudaResources& gpu) const {
    COMET_CUDA(cudaStreamSynchronize(gpu.stream));
    std::vector<uint8_t> host = out.to_host();
    COMET_CUDA(cudaMemset(out.get(), 0xFF, out.bytes()));
    COMET_CUDA(cudaMemset(workspace.get(), 0xFF, workspace.bytes()));
    COMET_CUDA(cudaDeviceSynchronize());
    return host;
  }

  int64_t rows;
  testing::DeviceArray<uint8_t> packed;
  testing::DeviceArray<uint8_t> multiplier;
  testing::DeviceArray<uint8_t> offset;
  testing::DeviceArray<uint8_t> codes;
  testing::DeviceArray<uint16_t> group_scale;
  testing::DeviceArray<float> channel_scale;
  testing::DeviceArray<float> x_scales;
  testing::DeviceArray<float> bias;
  testing::DeviceArray<OutputTile> tiles;
  testing::DeviceArray<int32_t> counters;
  testing::DeviceArray<uint8_t> workspace;
  testing::DeviceArray<uint8_t> out;
  GemmArgs args;
  std::vector<uint8_t> want;
};

}  // namespace comet::formats::w4ax::cuda
