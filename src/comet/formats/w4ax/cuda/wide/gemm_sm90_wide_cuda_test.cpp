// The wide tiles of w4ax on sm_90a have the bits of mma on shapes that do not divide: rows, tokens,
// blocks, columns, with bias, of F32 and BF16; every tile, in few CTAs and many, whole and shared
// by clusters. What they take on the linears of LLaMA-3: gemm_plans_cuda_test.cpp.
#include <gtest/gtest.h>

#include "comet/formats/w4ax/cuda/gemm_test_data.h"
#include "comet/formats/w4ax/cuda/wide/gemm_sm90_wide.h"
#include "support/gpu.h"

namespace comet::formats::w4ax::cuda {
namespace {

using testing::DeviceArray;

struct Shape {
  int32_t num_tiles = 1;
  int32_t last_rows = 128;  // of the last packed tile
  int32_t blocks = 1;
  int32_t int4_blocks = 0;
  int32_t tokens = 65;
  WeightKind kind = WeightKind::kChannel;
  bool has_bias = false;
  bool out_is_bf16 = true;
  int32_t padding = 0;  // columns of the output beyond those of the product

  [[nodiscard]] int64_t num_columns() const { return int64_t{num_tiles - 1} * 128 + last_rows; }
  [[nodiscard]] std::string text() const {
    return std::to_string(tokens) + " x " + std::to_string(num_columns()) + " x " +
           std::to_string(blocks) + " blocks, " + std::to_string(int4_blocks) + " INT4" +
           (kind == WeightKind::kProgressive ? ", progressive" : "") + (has_bias ? ", bias" : "") +
           (out_is_bf16 ? "" : ", F32") + ", padding " + std::to_string(padding);
  }
};

std::vector<OutputTile> tiles_of(const Shape& shape) {
  std::vector<OutputTile> tiles;
  for (int32_t i = 0; i < shape.num_tiles; ++i) {
    tiles.push_back({i * 128, i + 1 == shape.num_tiles ? shape.last_rows : 128});
  }
  return tiles;
}

/// Operands on the device, and what mma makes of them.
struct Product {
  Product(const Shape& shape, const CudaResources& gpu)
      : rows(int64_t{shape.num_tiles} * 128),
        packed(random_bytes(rows * shape.blocks * 64, 1, 0, 255)),
        multiplier(random_bytes(rows * shape.blocks, 2, 1, 8)),
        offset(random_bytes(rows * shape.blocks, 3, 0, 7)),
        codes(random_bytes(int64_t{shape.tokens} * shape.blocks * 128, 4, 0, 255)),
        channel_scale(random_floats(rows, 5)),
        x_scales(random_floats(int64_t{2} * shape.tokens, 6)),
        bias(random_floats(shape.num_columns(), 7)),
        tiles(tiles_of(shape)),
        counters(std::vector<int32_t>(static_cast<size_t>(kNumCounters), 0)),
        workspace(size_t{64} << 20),
        out(static_cast<size_t>(shape.tokens * (shape.num_columns() + shape.padding) *
                                (shape.out_is_bf16 ? 2 : 4))) {
    args.kind = shape.kind;
    args.packed = packed.get();
    args.channel_scale = channel_scale.get();
    args.multiplier = multiplier.get();
    args.offset = reinterpret_cast<const int8_t*>(offset.get());
    if (shape.has_bias) args.bias = bias.get();
    args.tiles = tiles.get();
    args.num_tiles = shape.num_tiles;
    args.blocks = shape.blocks;
    args.int4_blocks = shape.int4_blocks;
    args.out_is_bf16 = shape.out_is_bf16;
    args.tokens = shape.tokens;
    args.codes = reinterpret_cast<const int8_t*>(codes.get());
    args.x_scales = x_scales.get();
    args.out = out.get();
    args.out_stride = shape.num_columns() + shape.padding;
    gemm_mma(args, plan_gemm(args, gpu.num_sms), workspace.get(), counters.get(), gpu.stream);
    want = outputs(gpu);
  }

  /// Outputs, which are poisoned behind it.
  [[nodiscard]] std::vector<uint8_t> outputs(const CudaResources& gpu) const {
    COMET_CUDA(cudaStreamSynchronize(gpu.stream));
    std::vector<uint8_t> host = out.to_host();
    COMET_CUDA(cudaMemset(out.get(), 0xFF, out.bytes()));
    COMET_CUDA(cudaDeviceSynchronize());
    return host;
  }

  int64_t rows;
  DeviceArray<uint8_t> packed;
  DeviceArray<uint8_t> multiplier;
  DeviceArray<uint8_t> offset;
  DeviceArray<uint8_t> codes;
  DeviceArray<float> channel_scale;
  DeviceArray<float> x_scales;
  DeviceArray<float> bias;
  DeviceArray<OutputTile> tiles;
  DeviceArray<int32_t> counters;
  DeviceArray<uint8_t> workspace;
  DeviceArray<uint8_t> out;
  GemmArgs args;
  std::vector<uint8_t> want;
};

void check_tile(const Product& product, const CudaResources& gpu, Sm90Plan plan,
                const std::string& what) {
  for (const int num_ctas : {1, 3, gpu.num_sms}) {
    plan.num_ctas = num_ctas;
    plan = cut_gemm_sm90(product.args, plan, true);
    run_gemm_sm90(product.args, plan, nullptr, nullptr, gpu.stream);
    EXPECT_TRUE(product.outputs(gpu) == product.want)
        << what << ": " << plan.tile_rows << " x " << plan.tile_tokens << ", " << num_ctas
        << " CTAs, splits " << plan.num_splits;
    if (plan.num_splits > 1) return;  // as many CTAs as it takes
  }
}

struct Tile {
  int32_t rows, tokens, splits;
};

constexpr Tile kTiles[] = {{128, 64, 1},  {128, 128, 1}, {256, 128, 1}, {128, 256, 1},
                           {128, 256, 2}, {128, 256, 3}, {128, 256, 4}, {256, 64, 1},
                           {256, 64, 2},  {256, 64, 3},  {256, 64, 5},  {256, 64, 8}};

void check_shape(const Shape& shape, const CudaResources& gpu) {
  const Product product(shape, gpu);
  for (const auto& [rows, tokens, splits] : kTiles) {
    Sm90Plan plan;
    plan.tile_rows = rows;
    plan.tile_tokens = tokens;
    plan.is_wide = true;
    plan.num_splits = splits;
    if (sm90_wide_suits(product.args, plan)) check_tile(product, gpu, plan, shape.text());
  }
}

std::vector<Shape> odd_shapes(WeightKind kind) {
  std::vector<Shape> shapes;
  // Blocks: one, odd, even, more than stages; segments: one of either kind, a short and a long one.
  for (const auto& [blocks, int4_blocks] :
       {std::pair{1, 0}, {2, 2}, {2, 1}, {7, 0}, {9, 8}, {13, 11}, {14, 5}, {32, 31}, {40, 17}}) {
    Shape shape{3, 128, blocks, int4_blocks, 200, kind};
    shapes.push_back(shape);
    shape.tokens = 257;
    shape.num_tiles = 2;
    shape.last_rows = 40;  // whole warps and a half
    shape.has_bias = true;
    shapes.push_back(shape);
    shape.out_is_bf16 = false;
    shape.padding = 3;
    shapes.push_back(shape);
  }
  shapes.push_back({10, 128, 12, 0, 1000, kind});
  // Few tokens: tiles of 64 alone.
  for (const int32_t tokens : {1, 17, 33, 64}) {
    shapes.push_back({3, 100, 23, 22, tokens, kind, true});
    shapes.push_back({4, 128, 9, 0, tokens, kind, false, false});
  }
  shapes.push_back({1, 128, 4, 3, 65, kind, true, true, 8});
  shapes.push_back({1, 127, 4, 3, 65, kind, true, true, 0});
  return shapes;
}

class W4axWideCuda : public ::testing::TestWithParam<WeightKind> {};

TEST_P(W4axWideCuda, SameBitsOnOddShapes) {
  const auto gpu = testing::open_gpu();
  if (!gpu || gpu->sm != 90) GTEST_SKIP() << "no GPU of sm_90";
  for (const Shape& shape : odd_shapes(GetParam())) check_shape(shape, *gpu);
}

/// Few CTAs and stages filled again, for compute-sanitizer.
TEST_P(W4axWideCuda, SmallShapesOfEveryTile) {
  const auto gpu = testing::open_gpu();
  if (!gpu || gpu->sm != 90) GTEST_SKIP() << "no GPU of sm_90";
  check_shape({2, 40, 25, 24, 70, GetParam(), true}, *gpu);
  check_shape({2, 128, 25, 0, 60, GetParam()}, *gpu);
}

INSTANTIATE_TEST_SUITE_P(Kinds, W4axWideCuda,
                         ::testing::Values(WeightKind::kChannel, WeightKind::kProgressive),
                         [](const auto& kind) {
                           return kind.param == WeightKind::kChannel ? "Channel" : "Progressive";
                         });

}  // namespace
}  // namespace comet::formats::w4ax::cuda
