// w4ax with scales per block by wgmma has the bits of mma on shapes that do not divide: rows,
// tokens, blocks, chains, segments, columns, with bias, of F32 and BF16; every tile, whole and
// shared by clusters. What it takes on the linears of LLaMA-3 8B is printed.
#include <gtest/gtest.h>

#include <cstdio>

#include "comet/formats/w4ax/cuda/chains/gemm_sm90_chains.h"
#include "comet/formats/w4ax/cuda/gemm_test_data.h"
#include "support/gpu.h"
#include "support/gpu_time.h"

namespace comet::formats::w4ax::cuda {
namespace {

using testing::DeviceArray;

constexpr int32_t kTiles[] = {16, 32, 64, 128};

/// Every cut that there is; of whole tiles also in few CTAs, where they may have several.
void check_tile(const MmaProduct& product, const CudaResources& gpu, int32_t tile_tokens,
                const std::string& what) {
  for (int32_t splits = 1; splits <= kMostChainSplits; ++splits) {
    ChainsPlan plan = cut_gemm_chains(product.args, tile_tokens, splits, gpu.num_sms);
    if (!chains_suit(product.args, plan)) return;
    ASSERT_LE(static_cast<size_t>(plan.workspace_bytes), product.workspace.bytes());
    for (const int32_t most_ctas : {1, 3, plan.num_ctas}) {
      if (most_ctas != plan.num_ctas && (splits > 1 || !chains_walk(tile_tokens))) continue;
      ChainsPlan few = plan;
      few.num_ctas = std::min(plan.num_ctas, most_ctas);
      run_gemm_chains(product.args, few, product.workspace.get(), gpu.stream);
      EXPECT_TRUE(product.outputs(gpu) == product.want)
          << what << ": tiles of " << tile_tokens << " tokens, " << few.num_ctas << " CTAs, splits "
          << splits;
    }
  }
}

void check_shape(const ProductShape& shape, const CudaResources& gpu) {
  const MmaProduct product(shape, gpu);
  for (const int32_t tile : kTiles) check_tile(product, gpu, tile, shape.text());
}

struct Mode {
  WeightKind kind;
  bool block_scales;
};

std::vector<ProductShape> odd_shapes(const Mode& mode) {
  std::vector<ProductShape> shapes;
  // Blocks: one chain and less, more; segments: a border at an end, within a chain, between two.
  for (const auto& [blocks, int4_blocks] :
       {std::pair{1, 0}, {1, 1}, {2, 1}, {7, 6}, {8, 8}, {9, 8}, {17, 5}, {40, 39}}) {
    for (const int32_t tokens : {1, 15, 16, 17, 33, 64, 65, 130, 257}) {
      ProductShape shape{mode.kind, mode.block_scales, 2, 128, blocks, int4_blocks, tokens};
      if (tokens % 2 == 1) {
        shape.last_rows = tokens % 4 == 1 ? 40 : 127;  // whole warps and a half; odd
        shape.has_bias = true;
        shape.padding = tokens % 3;
      }
      shape.out_is_bf16 = tokens % 5 != 0;
      shapes.push_back(shape);
    }
  }
  shapes.push_back({mode.kind, mode.block_scales, 10, 128, 24, 23, 600, true});
  shapes.push_back({mode.kind, mode.block_scales, 3, 128, 112, 111, 40});
  shapes.push_back({mode.kind, mode.block_scales, 1, 100, 64, 0, 5, true, false, 3});
  return shapes;
}

class W4axChainsCuda : public ::testing::TestWithParam<Mode> {};

TEST_P(W4axChainsCuda, SameBitsOnOddShapes) {
  const auto gpu = testing::open_gpu();
  if (!gpu || gpu->sm != 90) GTEST_SKIP() << "no GPU of sm_90";
  for (const ProductShape& shape : odd_shapes(GetParam())) check_shape(shape, *gpu);
}

/// Few CTAs, stages and chains' scales filled again, for compute-sanitizer.
TEST_P(W4axChainsCuda, SmallShapesOfEveryTile) {
  const auto gpu = testing::open_gpu();
  if (!gpu || gpu->sm != 90) GTEST_SKIP() << "no GPU of sm_90";
  check_shape({GetParam().kind, GetParam().block_scales, 2, 40, 33, 30, 70, true}, *gpu);
}

/// Every cluster that a plan may have can start; how many the card holds is printed.
TEST_P(W4axChainsCuda, ClustersFit) {
  const auto gpu = testing::open_gpu();
  if (!gpu || gpu->sm != 90) GTEST_SKIP() << "no GPU of sm_90";
  GemmArgs args;
  args.kind = GetParam().kind;
  args.block_scales = GetParam().block_scales;
  args.num_tiles = 1;
  args.blocks = kMostChainSplits * kBlocksOfChain;
  args.tokens = 16;
  for (const int32_t tile : kTiles) {
    std::printf("tiles of %3d tokens, clusters of 1 to 8:", tile);
    for (int32_t splits = 1; splits <= kMostChainSplits; ++splits) {
      const int clusters =
          count_chains_clusters(args, cut_gemm_chains(args, tile, splits, gpu->num_sms));
      EXPECT_GE(clusters, 1) << tile << " tokens, splits " << splits;
      std::printf(" %d", clusters);
    }
    std::printf("\n");
  }
}

/// One linear n × k of LLaMA-3 8B, its weights again and again so that they come from memory.
struct Linear {
  static constexpr int32_t kMaxTokens = 1024;
  static constexpr int64_t kRotatedBytes = int64_t{256} << 20;

  Linear(int64_t n, int64_t k, const Mode& mode)
      : weight_bytes(n * k / 2),
        num_copies(std::max<int64_t>(2, kRotatedBytes / weight_bytes)),
        packed(static_cast<size_t>(num_copies * weight_bytes)),
        codes(static_cast<size_t>(kMaxTokens * k)),
        levels(random_bytes(n * k / 128, 2, 1, 7)),
        group_scale(random_group_scales(n * k / 128, 8)),
        channel_scale(random_floats(n, 5)),
        x_scales(random_floats(kMaxTokens * k / 128, 6)),
        tiles(tiles_of(static_cast<int32_t>(n / 128), 128)),
        counters(std::vector<int32_t>(static_cast<size_t>(kNumCounters), 0)),
        workspace(size_t{256} << 20),
        out(static_cast<size_t>(kMaxTokens * n)) {
    fill(packed, 1, 0, 255);
    fill(codes, 4, 0, 255);
    args.kind = mode.kind;
    args.packed = packed.get();
    args.channel_scale = channel_scale.get();
    args.group_scale = group_scale.get();
    args.multiplier = levels.get();
    args.offset = reinterpret_cast<const int8_t*>(levels.get());
    args.tiles = tiles.get();
    args.num_tiles = static_cast<int32_t>(n / 128);
    args.blocks = static_cast<int32_t>(k / 128);
    args.int4_blocks = args.blocks - 1;
    args.block_scales = mode.block_scales;
    args.out_is_bf16 = true;
    args.codes = reinterpret_cast<const int8_t*>(codes.get());
    args.x_scales = x_scales.get();
    args.out = out.get();
    args.out_stride = n;
  }

  template <class Run>
  [[nodiscard]] double time_us(GemmArgs of, cudaStream_t stream, const Run& run) const {
    return testing::median_launch_us(stream, 12, [&](int i) {
      of.packed = packed.get() + i % num_copies * weight_bytes;
      run(of);
    });
  }

  [[nodiscard]] std::vector<uint8_t> outputs(const GemmArgs& of, cudaStream_t stream) const {
    const auto bytes = static_cast<size_t>(of.tokens * of.out_stride) * 2;
    COMET_CUDA(cudaStreamSynchronize(stream));
    std::vector<uint8_t> host(bytes);
    COMET_CUDA(cudaMemcpy(host.data(), of.out, bytes, cudaMemcpyDeviceToHost));
    COMET_CUDA(cudaMemset(of.out, 0xFF, bytes));
    COMET_CUDA(cudaDeviceSynchronize());
    return host;
  }

  int64_t weight_bytes;
  int64_t num_copies;
  DeviceArray<uint8_t> packed;
  DeviceArray<uint8_t> codes;
  DeviceArray<uint8_t> levels;
  DeviceArray<uint16_t> group_scale;
  DeviceArray<float> channel_scale;
  DeviceArray<float> x_scales;
  DeviceArray<OutputTile> tiles;
  DeviceArray<int32_t> counters;
  DeviceArray<uint8_t> workspace;
  DeviceArray<uint16_t> out;
  GemmArgs args;
};

void print_time(const GemmArgs& args, const char* name, const ChainsPlan& plan, bool is_chosen,
                double us) {
  const double weights = 128.0 * args.num_tiles * args.blocks * 128;
  std::printf(
      "%5d x %5d x %5d kind %d %s: %-6s %3d tokens, splits %d%s %8.1f us %6.0f GB/s %5.0f "
      "TOPS\n",
      args.tokens, args.num_tiles * 128, args.blocks * 128, static_cast<int>(args.kind),
      args.block_scales ? "S1" : "S2", name, plan.tile_tokens, plan.num_splits,
      is_chosen ? "*" : " ", us, weights / 2 / us / 1e3, 2 * weights * args.tokens / us / 1e6);
}

/// Of the plan taken (*), and of the others of its tile and its neighbours'.
void check_linear(const Linear& linear, int32_t tokens, const CudaResources& gpu) {
  GemmArgs args = linear.args;
  args.tokens = tokens;
  const GemmPlan mma_plan = [&] {
    GemmPlan plan = plan_gemm(args, gpu.num_sms);
    plan.starts_early = true;
    return plan;
  }();
  ASSERT_LE(static_cast<size_t>(mma_plan.workspace_bytes), linear.workspace.bytes());
  const auto run_mma = [&](const GemmArgs& of) {
    gemm_mma(of, mma_plan, linear.workspace.get(), linear.counters.get(), gpu.stream);
  };
  run_mma(args);
  const std::vector<uint8_t> want = linear.outputs(args, gpu.stream);
  print_time(args, "mma", {mma_plan.tile_tokens, mma_plan.num_splits}, false,
             linear.time_us(args, gpu.stream, run_mma));
  const ChainsPlan chosen = plan_gemm_chains(args, gpu.num_sms);
  for (const int32_t tile : kTiles) {
    if (tile < std::min(tokens, 64) || (tile > 16 && tile >= 2 * tokens)) continue;
    for (int32_t splits = 1; splits <= kMostChainSplits; ++splits) {
      const ChainsPlan plan = cut_gemm_chains(args, tile, splits, gpu.num_sms);
      if (!chains_suit(args, plan) || (splits > 1 && plan.num_ctas > 3 * gpu.num_sms)) break;
      ASSERT_LE(static_cast<size_t>(plan.workspace_bytes), linear.workspace.bytes());
      const auto run = [&](const GemmArgs& of) {
        run_gemm_chains(of, plan, linear.workspace.get(), gpu.stream);
      };
      run(args);
      EXPECT_TRUE(linear.outputs(args, gpu.stream) == want) << tile << " tokens, splits " << splits;
      print_time(args, "chains", plan, tile == chosen.tile_tokens && splits == chosen.num_splits,
                 linear.time_us(args, gpu.stream, run));
    }
  }
  std::fflush(stdout);
}

TEST_P(W4axChainsCuda, SameBitsOnLlama8B) {
  const auto gpu = testing::open_gpu();
  if (!gpu || gpu->sm != 90) GTEST_SKIP() << "no GPU of sm_90";
  for (const auto& [n, k] : {std::pair{6144, 4096}, {4096, 4096}, {28672, 4096}, {4096, 14336}}) {
    const Linear linear(n, k, GetParam());
    for (const int32_t tokens : {16, 32, 64, 128, 256, 1024}) {
      check_linear(linear, tokens, *gpu);
      if (HasFatalFailure()) return;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Modes, W4axChainsCuda,
                         ::testing::Values(Mode{WeightKind::kChannel, true},
                                           Mode{WeightKind::kProgressive, true},
                                           Mode{WeightKind::kGroup, true},
                                           Mode{WeightKind::kGroup, false}),
                         [](const auto& mode) {
                           const WeightKind kind = mode.param.kind;
                           std::string name = kind == WeightKind::kChannel ? "Channel"
                                              : kind == WeightKind::kGroup ? "Group"
                                                                           : "Progressive";
                           return name + (mode.param.block_scales ? "S1" : "S2");
                         });

}  // namespace
}  // namespace comet::formats::w4ax::cuda
