// The wide tiles of w4ax on sm_90a have the bits of mma on shapes that do not divide: rows, tokens,
// blocks, columns, with bias, of F32 and BF16; every tile, in few CTAs and many, whole and shared
// by clusters. What they take on the linears of LLaMA-3: gemm_plans_cuda_test.cpp.
#include <gtest/gtest.h>

#include "comet/formats/w4ax/cuda/gemm_test_data.h"
#include "comet/formats/w4ax/cuda/wide/gemm_sm90_wide.h"
#include "support/gpu.h"

namespace comet::formats::w4ax::cuda {
namespace {

void check_tile(const MmaProduct& product, const CudaResources& gpu, Sm90Plan plan,
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

void check_shape(const ProductShape& shape, const CudaResources& gpu) {
  const MmaProduct product(shape, gpu);
  for (const auto& [rows, tokens, splits] : kTiles) {
    Sm90Plan plan;
    plan.tile_rows = rows;
    plan.tile_tokens = tokens;
    plan.is_wide = true;
    plan.num_splits = splits;
    if (sm90_wide_suits(product.args, plan)) check_tile(product, gpu, plan, shape.text());
  }
}

std::vector<ProductShape> odd_shapes(WeightKind kind) {
  std::vector<ProductShape> shapes;
  // Blocks: one, odd, even, more than stages; segments: one of either kind, a short and a long one.
  for (const auto& [blocks, int4_blocks] :
       {std::pair{1, 0}, {2, 2}, {2, 1}, {7, 0}, {9, 8}, {13, 11}, {14, 5}, {32, 31}, {40, 17}}) {
    ProductShape shape{kind, false, 3, 128, blocks, int4_blocks, 200};
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
  shapes.push_back({kind, false, 10, 128, 12, 0, 1000});
  // Few tokens: tiles of 64 alone.
  for (const int32_t tokens : {1, 17, 33, 64}) {
    shapes.push_back({kind, false, 3, 100, 23, 22, tokens, true});
    shapes.push_back({kind, false, 4, 128, 9, 0, tokens, false, false});
  }
  shapes.push_back({kind, false, 1, 128, 4, 3, 65, true, true, 8});
  shapes.push_back({kind, false, 1, 127, 4, 3, 65, true, true, 0});
  return shapes;
}

class W4axWideCuda : public ::testing::TestWithParam<WeightKind> {};

TEST_P(W4axWideCuda, SameBitsOnOddShapes) {
  const auto gpu = testing::open_gpu();
  if (!gpu || gpu->sm != 90) GTEST_SKIP() << "no GPU of sm_90";
  for (const ProductShape& shape : odd_shapes(GetParam())) check_shape(shape, *gpu);
}

/// Few CTAs and stages filled again, for compute-sanitizer.
TEST_P(W4axWideCuda, SmallShapesOfEveryTile) {
  const auto gpu = testing::open_gpu();
  if (!gpu || gpu->sm != 90) GTEST_SKIP() << "no GPU of sm_90";
  check_shape({GetParam(), false, 2, 40, 25, 24, 70, true}, *gpu);
  check_shape({GetParam(), false, 2, 128, 25, 0, 60}, *gpu);
}

INSTANTIATE_TEST_SUITE_P(Kinds, W4axWideCuda,
                         ::testing::Values(WeightKind::kChannel, WeightKind::kProgressive),
                         [](const auto& kind) {
                           return kind.param == WeightKind::kChannel ? "Channel" : "Progressive";
                         });

}  // namespace
}  // namespace comet::formats::w4ax::cuda
