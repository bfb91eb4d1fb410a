// Every way of cutting a product of w4ax gives the same bits on the linears of LLaMA-3, those of
// mma; what each takes is printed (weights from memory, launches in a graph), to choose
// plan_gemm_sm90() by.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>
#include <functional>
#include <string>

#include "comet/formats/w4ax/cuda/gemm_sm90.h"
#include "comet/formats/w4ax/cuda/gemm_test_data.h"
#include "comet/formats/w4ax/cuda/wide/gemm_sm90_wide.h"
#include "support/gpu.h"
#include "support/gpu_time.h"

namespace comet::formats::w4ax::cuda {
namespace {

using testing::DeviceArray;
using Launch = std::function<void(const GemmArgs& args)>;

constexpr int64_t kRotatedBytes = int64_t{256} << 20;  // of weights: more than L2 holds
constexpr int32_t kMaxTokens = 4096;
constexpr int32_t kMaxCompared = 1024;  // tokens of which all outputs are compared
constexpr int kLaunches = 12;
constexpr int64_t kWorkspaceBytes = int64_t{256} << 20;

/// One linear n × k, its weights again and again, and codes of kMaxTokens tokens.
struct Operands {
  Operands(int64_t n, int64_t k)
      : weight_bytes(n * k / 2),
        num_copies(std::max<int64_t>(2, kRotatedBytes / weight_bytes)),
        packed(static_cast<size_t>(num_copies * weight_bytes)),
        multiplier(static_cast<size_t>(n * k / 128)),
        offset(static_cast<size_t>(n * k / 128)),
        codes(static_cast<size_t>(kMaxTokens * k)),
        channel_scale(random_floats(n, 5)),
        x_scales(random_floats(int64_t{2} * kMaxTokens, 6)),
        tiles(tiles_of(static_cast<int32_t>(n / 128), 128)),
        counters(std::vector<int32_t>(static_cast<size_t>(kNumCounters), 0)),
        workspace(static_cast<size_t>(kWorkspaceBytes)),
        out(static_cast<size_t>(kMaxTokens * n)) {
    fill(packed, 1, 0, 255);
    fill(multiplier, 2, 1, 8);
    fill(offset, 3, 0, 7);
    fill(codes, 4, 0, 255);
    args.packed = packed.get();
    args.channel_scale = channel_scale.get();
    args.tiles = tiles.get();
    args.num_tiles = static_cast<int32_t>(n / 128);
    args.blocks = static_cast<int32_t>(k / 128);
    args.out_is_bf16 = true;
    args.codes = reinterpret_cast<const int8_t*>(codes.get());
    args.x_scales = x_scales.get();
    args.out = out.get();
    args.out_stride = n;
  }
  /// One segment of INT8 codes (progressive weights), or a last block of them (channel weights).
  [[nodiscard]] GemmArgs args_of(WeightKind kind, int32_t tokens) const {
    GemmArgs result = args;
    result.kind = kind;
    result.tokens = tokens;
    result.int4_blocks = kind == WeightKind::kProgressive ? 0 : args.blocks - 1;
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
  DeviceArray<float> x_scales;
  DeviceArray<OutputTile> tiles;
  DeviceArray<int32_t> counters;
  DeviceArray<uint8_t> workspace;
  DeviceArray<uint16_t> out;
  GemmArgs args;
};

double time_us(const Launch& launch, GemmArgs args, const Operands& operands, cudaStream_t stream) {
  return testing::median_launch_us(stream, kLaunches, [&](int i) {
    args.packed = operands.packed.get() + i % operands.num_copies * operands.weight_bytes;
    launch(args);
  });
}

struct Candidate {
  std::string name;
  Sm90Plan plan;
};

/// Tiles that hold all tokens, or of 128 tokens; CTAs as many as SMs or twice that; blocks shared
/// or tiles whole. The one that plan_gemm_sm90() takes comes first.
std::vector<Candidate> candidates(const GemmArgs& args, int num_sms) {
  std::vector<Candidate> all{{"chosen", plan_gemm_sm90(args, num_sms)}};
  const bool has_two = args.int4_blocks > 0;
  for (const int32_t tokens : {16, 32, 64, 128}) {
    if (tokens < std::min(args.tokens, 64) || (tokens > 16 && tokens >= 2 * args.tokens)) continue;
    if (tokens < 128 && args.tokens > 256) continue;
    const bool two_fit = tokens * (has_two ? 2 : 1) <= 64;
    for (const int ctas : {num_sms, 2 * num_sms}) {
      if (ctas > num_sms && !two_fit) continue;
      for (const bool is_whole : {false, true}) {
        const Sm90Plan plan = cut_gemm_sm90(args, {128, tokens, ctas, 0, 0}, is_whole);
        if (!is_whole && plan.workspace_bytes == 0) continue;
        if (plan.workspace_bytes > kWorkspaceBytes) continue;
        all.push_back({is_whole ? "whole" : "shared", plan});
      }
    }
  }
  return all;
}

struct WideTile {
  int32_t rows, tokens, splits;
};

constexpr WideTile kWideTiles[] = {{128, 64, 1},  {128, 128, 1}, {256, 128, 1}, {128, 256, 1},
                                   {128, 256, 2}, {128, 256, 3}, {128, 256, 4}};

/// Wide tiles, whole and shared by clusters.
std::vector<Candidate> wide_candidates(const GemmArgs& args, int num_sms) {
  std::vector<Candidate> all;
  for (const auto& [rows, tokens, splits] : kWideTiles) {
    if (tokens >= 2 * args.tokens || (tokens < 128 && args.tokens > 512)) continue;
    const Sm90Plan plan = cut_gemm_sm90(args, {rows, tokens, num_sms, 0, 0, true, splits}, true);
    if (!sm90_wide_suits(args, plan) || (splits > 1 && plan.num_ctas > 3 * num_sms)) continue;
    all.push_back({splits > 1 ? "split" + std::to_string(splits) : "wide", plan});
  }
  return all;
}

void print_time(const GemmArgs& args, const Candidate& candidate, double us) {
  const double weights = 128.0 * args.num_tiles * args.blocks * 128;
  std::printf("%5d x %5d x %5d %s %4d x %3d, %3d CTAs, %5d %-7s %8.1f us %6.0f GB/s %5.0f TOPS\n",
              args.tokens, args.num_tiles * 128, args.blocks * 128,
              args.kind == WeightKind::kProgressive ? "w4a8" : "fmpq", candidate.plan.tile_rows,
              candidate.plan.tile_tokens, candidate.plan.num_ctas, candidate.plan.num_whole,
              candidate.name.c_str(), us, weights / 2 / us / 1e3,
              2 * weights * args.tokens / us / 1e6);
}

std::vector<uint8_t> outputs_of(const GemmArgs& args) {
  std::vector<uint8_t> host(static_cast<size_t>(args.tokens * args.out_stride) * 2);
  COMET_CUDA(cudaMemcpy(host.data(), args.out, host.size(), cudaMemcpyDeviceToHost));
  return host;
}

void check_plans(const CudaResources& gpu, const Operands& operands, WeightKind kind,
                 int32_t tokens, bool wide_alone) {
  const GemmArgs args = operands.args_of(kind, tokens);
  const auto bytes = static_cast<size_t>(args.tokens * args.out_stride) * 2;
  GemmPlan mma_plan = plan_gemm(args, gpu.num_sms);
  ASSERT_LE(mma_plan.workspace_bytes, kWorkspaceBytes);
  gemm_mma(args, mma_plan, operands.workspace.get(), operands.counters.get(), gpu.stream);
  COMET_CUDA(cudaStreamSynchronize(gpu.stream));
  const bool is_compared = tokens <= kMaxCompared;
  const std::vector<uint8_t> want = is_compared ? outputs_of(args) : std::vector<uint8_t>();
  std::vector<Candidate> all = candidates(args, gpu.num_sms);
  if (wide_alone) all.resize(1);
  if (tokens > 64) {
    for (Candidate& wide : wide_candidates(args, gpu.num_sms)) all.push_back(std::move(wide));
  }
  for (const Candidate& candidate : all) {
    const Launch launch = [&](const GemmArgs& a) {
      run_gemm_sm90(a, candidate.plan, operands.workspace.get(), operands.counters.get(),
                    gpu.stream);
    };
    COMET_CUDA(cudaMemset(args.out, 0xFF, bytes));
    COMET_CUDA(cudaDeviceSynchronize());
    launch(args);
    COMET_CUDA(cudaStreamSynchronize(gpu.stream));
    if (is_compared) {
      EXPECT_TRUE(want == outputs_of(args)) << candidate.name << " " << candidate.plan.num_ctas;
    }
    print_time(args, candidate, time_us(launch, args, operands, gpu.stream));
  }
  std::fflush(stdout);
}

class W4axPlansCuda : public ::testing::TestWithParam<std::pair<int64_t, int64_t>> {};

void check_all(std::pair<int64_t, int64_t> shape, std::initializer_list<int32_t> all_tokens,
               bool wide_alone) {
  const auto gpu = testing::open_gpu();
  if (!gpu || gpu->sm != 90) GTEST_SKIP() << "no GPU of sm_90";
  const Operands operands(shape.first, shape.second);
  for (const int32_t tokens : all_tokens) {
    for (const WeightKind kind : {WeightKind::kProgressive, WeightKind::kChannel}) {
      check_plans(*gpu, operands, kind, tokens, wide_alone);
      if (::testing::Test::HasFatalFailure()) return;
    }
  }
}

TEST_P(W4axPlansCuda, SameBitsWhateverThePlan) {
  check_all(GetParam(), {1, 16, 32, 64, 128, 256, 1024, 4096}, false);
}

/// What is taken now, and wide tiles.
TEST_P(W4axPlansCuda, SameBitsOfWideTiles) {
  check_all(GetParam(), {128, 192, 256, 512, 1024}, true);
}

INSTANTIATE_TEST_SUITE_P(Linears, W4axPlansCuda,
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
