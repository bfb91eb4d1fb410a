// The product of few tokens with K split over a cluster has the bits of mma, whatever the cut: on
// ragged shapes, and on the linears of LLaMA-3, where the time of every cut is printed beside that
// of gemm_sm90 (weights from memory, launches in a graph), to choose plan_gemm_split() by.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <string>

#include "comet/base/rng.h"
#include "comet/device/cuda/graph.h"
#include "comet/formats/w4ax/cuda/gemm_sm90.h"
#include "comet/formats/w4ax/cuda/gemm_sm90_split.h"
#include "support/gpu.h"

namespace comet::formats::w4ax::cuda {
namespace {

using testing::DeviceArray;
using Launch = std::function<void(const GemmArgs& args)>;

constexpr int64_t kRotatedBytes = int64_t{256} << 20;  // of weights: more than L2 holds
constexpr int64_t kWorkspaceBytes = int64_t{256} << 20;
constexpr int kLaunches = 24;
constexpr int32_t kGuard = 5;  // columns behind the last that nobody may write

std::vector<uint8_t> random_bytes(size_t count, uint64_t seed, int least, int most) {
  Rng rng(seed);
  std::vector<uint8_t> bytes(count);
  for (uint8_t& byte : bytes) {
    byte = static_cast<uint8_t>(least +
                                static_cast<int>(rng.next_below(static_cast<uint64_t>(most) -
                                                                static_cast<uint64_t>(least) + 1)));
  }
  return bytes;
}

std::vector<float> random_floats(size_t count, uint64_t seed) {
  Rng rng(seed);
  std::vector<float> values(count);
  for (float& value : values) value = (rng.next_uniform() - 0.25F) * 0.01F;
  return values;
}

/// A million random bytes again and again.
void fill(const DeviceArray<uint8_t>& bytes, uint64_t seed, int least, int most) {
  const auto own = random_bytes(std::min(bytes.bytes(), size_t{1} << 20), seed, least, most);
  for (size_t at = 0; at < bytes.bytes(); at += own.size()) {
    COMET_CUDA(cudaMemcpy(bytes.get() + at, own.data(), std::min(own.size(), bytes.bytes() - at),
                          cudaMemcpyHostToDevice));
  }
}

/// Tiles of `rows` outputs each, one behind the other.
std::vector<OutputTile> tiles_of(int32_t count, int32_t rows) {
  std::vector<OutputTile> table;
  for (int32_t i = 0; i < count; ++i) table.push_back({i * rows, rows});
  return table;
}

struct Shape {
  int32_t num_tiles;
  int32_t blocks;
  int32_t tile_rows;  // outputs of a tile
  int64_t num_copies;
};

/// A linear, its packed weights `num_copies` times, and codes of 64 tokens.
struct Operands {
  explicit Operands(const Shape& shape)
      : weight_bytes(int64_t{shape.num_tiles} * shape.blocks * 8192),
        num_copies(shape.num_copies),
        packed(static_cast<size_t>(num_copies * weight_bytes)),
        multiplier(static_cast<size_t>(shape.num_tiles) * shape.blocks * 128),
        offset(multiplier.bytes()),
        codes(static_cast<size_t>(shape.blocks) * 128 * kMaxSplitTokens),
        channel_scale(random_floats(static_cast<size_t>(shape.num_tiles) * 128, 5)),
        bias(random_floats(static_cast<size_t>(shape.num_tiles) * 128, 7)),
        x_scales(random_floats(2 * kMaxSplitTokens, 6)),
        tiles(tiles_of(shape.num_tiles, shape.tile_rows)),
        counters(std::vector<int32_t>(static_cast<size_t>(kNumCounters), 0)),
        workspace(static_cast<size_t>(kWorkspaceBytes)) {
    fill(packed, 1, 0, 255);
    fill(multiplier, 2, 1, 8);
    fill(offset, 3, 0, 7);
    fill(codes, 4, 0, 255);
    const int32_t n = shape.num_tiles * shape.tile_rows;
    args.packed = packed.get();
    args.channel_scale = channel_scale.get();
    args.tiles = tiles.get();
    args.num_tiles = shape.num_tiles;
    args.blocks = shape.blocks;
    args.codes = reinterpret_cast<const int8_t*>(codes.get());
    args.x_scales = x_scales.get();
    args.out_stride = shape.tile_rows % 4 == 0 ? n : n + kGuard;
  }
  [[nodiscard]] GemmArgs args_of(WeightKind kind, int32_t tokens, int32_t int4_blocks) const {
    GemmArgs result = args;
    result.kind = kind;
    result.tokens = tokens;
    result.int4_blocks = int4_blocks;
    if (kind == WeightKind::kProgressive) {
      result.multiplier = multiplier.get();
      result.offset = reinterpret_cast<const int8_t*>(offset.get());
    }
    return result;
  }

  int64_t weight_bytes;
  int64_t num_copies;
  DeviceArray<uint8_t> packed;
  DeviceArray<uint8_t> multiplier;
  DeviceArray<uint8_t> offset;
  DeviceArray<uint8_t> codes;
  DeviceArray<float> channel_scale;
  DeviceArray<float> bias;
  DeviceArray<float> x_scales;
  DeviceArray<OutputTile> tiles;
  DeviceArray<int32_t> counters;
  DeviceArray<uint8_t> workspace;
  GemmArgs args;
};

const char* mode_of(const GemmArgs& args) {
  return args.kind == WeightKind::kProgressive ? "w4a8" : "fmpq";
}

std::string label(const GemmArgs& args, const SplitPlan& plan) {
  return std::to_string(args.tokens) + " tokens, " + std::to_string(args.num_tiles) + " tiles, " +
         std::to_string(args.blocks) + " blocks, " + std::to_string(args.int4_blocks) + " INT4, " +
         mode_of(args) + ", tiles of " + std::to_string(plan.tile_tokens) + ", pairs " +
         std::to_string(plan.num_pairs) + ", splits " + std::to_string(plan.num_splits);
}

/// Every cut: the least tile that holds all tokens, and the next.
std::vector<SplitPlan> plans_of(const GemmArgs& args) {
  std::vector<SplitPlan> plans;
  const bool has_two = args.int4_blocks > 0 && args.int4_blocks < args.blocks;
  for (const int32_t tokens : {16, 32, 64}) {
    if (tokens < args.tokens || tokens >= 4 * std::max(args.tokens, 8)) continue;
    for (int32_t pairs = 1; pairs <= 2; ++pairs) {
      if (pairs == 2 && (tokens > 16 || !split_has_two_pairs(args.kind, has_two))) continue;
      for (int32_t splits = 1; splits <= std::min(kMaxSplits, args.blocks); ++splits) {
        plans.push_back({tokens, pairs, splits});
      }
    }
  }
  return plans;
}

/// What a launch leaves in `args.out`, which was poison.
std::vector<uint8_t> outputs_of(const Launch& launch, const GemmArgs& args, cudaStream_t stream) {
  const auto bytes =
      static_cast<size_t>(args.tokens * args.out_stride) * (args.out_is_bf16 ? 2 : 4);
  COMET_CUDA(cudaMemsetAsync(args.out, 0xFF, bytes, stream));
  launch(args);
  COMET_CUDA(cudaStreamSynchronize(stream));
  std::vector<uint8_t> host(bytes);
  COMET_CUDA(cudaMemcpy(host.data(), args.out, bytes, cudaMemcpyDeviceToHost));
  return host;
}

std::vector<uint8_t> wanted(const CudaResources& gpu, const Operands& operands,
                            const GemmArgs& args) {
  const GemmPlan plan = plan_gemm(args, gpu.num_sms);
  COMET_CHECK(plan.workspace_bytes <= kWorkspaceBytes, "{} bytes", plan.workspace_bytes);
  const Launch mma = [&](const GemmArgs& a) {
    gemm_mma(a, plan, operands.workspace.get(), operands.counters.get(), gpu.stream);
  };
  return outputs_of(mma, args, gpu.stream);
}

/// Outputs of every cut, in both types, with and without bias.
void check_ragged(const CudaResources& gpu, const Operands& operands, GemmArgs args) {
  const DeviceArray<float> out(static_cast<size_t>(args.tokens * args.out_stride));
  args.out = out.get();
  for (const bool is_bf16 : {false, true}) {
    args.out_is_bf16 = is_bf16;
    args.bias = is_bf16 ? operands.bias.get() : nullptr;
    const std::vector<uint8_t> want = wanted(gpu, operands, args);
    for (const SplitPlan& plan : plans_of(args)) {
      const Launch split = [&](const GemmArgs& a) { run_gemm_split(a, plan, gpu.stream); };
      ASSERT_TRUE(want == outputs_of(split, args, gpu.stream)) << label(args, plan);
    }
  }
}

TEST(W4axSplitCuda, SameBitsOnRaggedShapes) {
  const auto gpu = testing::open_gpu();
  if (!gpu || gpu->sm != 90) GTEST_SKIP() << "no GPU of sm_90";
  for (const Shape& shape : {Shape{1, 1, 1, 1},
                             {3, 2, 37, 1},
                             {2, 5, 128, 1},
                             {5, 24, 128, 1},
                             {40, 9, 40, 1},
                             {2, 113, 126, 1}}) {
    const Operands operands(shape);
    for (const WeightKind kind : {WeightKind::kProgressive, WeightKind::kChannel}) {
      for (const int32_t int4_blocks : {0, 1, shape.blocks / 2, shape.blocks - 1, shape.blocks}) {
        for (const int32_t tokens : {1, 3, 16, 17, 33, 64}) {
          check_ragged(*gpu, operands, operands.args_of(kind, tokens, int4_blocks));
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

double time_us(const Launch& launch, GemmArgs args, const Operands& operands, cudaStream_t stream) {
  const CudaGraph graph = CudaGraph::capture(stream, [&] {
    for (int i = 0; i < kLaunches; ++i) {
      args.packed = operands.packed.get() + i % operands.num_copies * operands.weight_bytes;
      launch(args);
    }
  });
  std::vector<double> times;
  for (int i = 0; i < 6; ++i) {
    CudaEvent begin;
    CudaEvent end;
    begin.record(stream);
    graph.launch(stream);
    end.record(stream);
    const double us = end.us_since(begin) / kLaunches;
    if (i > 0) times.push_back(us);  // the first warms up
  }
  std::ranges::sort(times);
  return times[times.size() / 2];
}

void check_linear(const CudaResources& gpu, const Operands& operands, GemmArgs args) {
  const int32_t n = args.num_tiles * 128;
  const DeviceArray<uint16_t> out(static_cast<size_t>(args.tokens) * n);
  args.out = out.get();
  args.out_is_bf16 = true;
  const std::vector<uint8_t> want = wanted(gpu, operands, args);
  const Sm90Plan sm90 = plan_gemm_sm90(args, gpu.num_sms);
  const Launch before = [&](const GemmArgs& a) {
    run_gemm_sm90(a, sm90, operands.workspace.get(), operands.counters.get(), gpu.stream);
  };
  std::printf("[%d, %d, %d, \"%s\", %d, 0, 0, %d, %.2f],\n", args.tokens, n, args.blocks * 128,
              mode_of(args), sm90.tile_tokens, sm90.num_ctas,
              time_us(before, args, operands, gpu.stream));
  for (const SplitPlan& plan : plans_of(args)) {
    const Launch split = [&](const GemmArgs& a) { run_gemm_split(a, plan, gpu.stream); };
    ASSERT_TRUE(want == outputs_of(split, args, gpu.stream)) << label(args, plan);
    std::printf("[%d, %d, %d, \"%s\", %d, %d, %d, %d, %.2f],\n", args.tokens, n, args.blocks * 128,
                mode_of(args), plan.tile_tokens, plan.num_pairs, plan.num_splits,
                count_split_clusters(args, plan), time_us(split, args, operands, gpu.stream));
  }
  std::fflush(stdout);
}

/// Lines of JSON: m, n, k, mode, tokens of a tile, pairs, splits, clusters that fit the card, µs;
/// of gemm_sm90 with 0 pairs and its number of CTAs.
class W4axSplitPlansCuda : public ::testing::TestWithParam<std::pair<int, int>> {};

TEST_P(W4axSplitPlansCuda, SameBitsWhateverThePlan) {
  const auto gpu = testing::open_gpu();
  if (!gpu || gpu->sm != 90) GTEST_SKIP() << "no GPU of sm_90";
  const auto& [n, k] = GetParam();
  const int64_t bytes = int64_t{n} * k / 2;
  const Operands operands({n / 128, k / 128, 128, std::max<int64_t>(2, kRotatedBytes / bytes)});
  for (const int32_t tokens : {16, 32, 64}) {
    for (const WeightKind kind : {WeightKind::kProgressive, WeightKind::kChannel}) {
      const int32_t int4_blocks = kind == WeightKind::kProgressive ? 0 : k / 128 - 1;
      check_linear(*gpu, operands, operands.args_of(kind, tokens, int4_blocks));
      if (HasFatalFailure()) return;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Linears, W4axSplitPlansCuda,
                         ::testing::Values(std::pair{6144, 4096}, std::pair{4096, 4096},
                                           std::pair{28672, 4096}, std::pair{4096, 14336},
                                           std::pair{10240, 8192}, std::pair{8192, 8192},
                                           std::pair{57344, 8192}, std::pair{8192, 28672}),
                         [](const auto& shape) {
                           return std::to_string(shape.param.first) + "x" +
                                  std::to_string(shape.param.second);
                         });

}  // namespace
}  // namespace comet::formats::w4ax::cuda
