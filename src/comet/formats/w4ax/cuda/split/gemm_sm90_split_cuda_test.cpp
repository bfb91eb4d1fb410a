// The product of few tokens with K split over a cluster has the bits of mma, whatever the cut: on
// ragged shapes, and on the linears of LLaMA-3, where the time of every cut is printed beside that
// of gemm_sm90 (weights from memory, launches in a graph), to choose plan_gemm_split() by.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <string>
#include <tuple>

#include "comet/formats/w4ax/cuda/gemm_sm90.h"
#include "comet/formats/w4ax/cuda/gemm_test_data.h"
#include "comet/formats/w4ax/cuda/split/gemm_sm90_split.h"
#include "comet/formats/w4ax/cuda/wide/gemm_sm90_wide.h"
#include "support/gpu.h"
#include "support/gpu_time.h"

namespace comet::formats::w4ax::cuda {
namespace {

using testing::DeviceArray;
using Launch = std::function<void(const GemmArgs& args)>;

constexpr int64_t kRotatedBytes = int64_t{256} << 20;  // of weights: more than L2 holds
constexpr int64_t kWorkspaceBytes = int64_t{256} << 20;
constexpr int kLaunches = 24;
constexpr int32_t kGuard = 5;  // columns behind the last that nobody may write
constexpr int kRepeats = 20;
constexpr int kCodesApart = 128;  // bytes between the codes of one repeat and the next

struct Shape {
  int32_t num_tiles;
  int32_t blocks;
  int32_t tile_rows;  // outputs of a tile
  int64_t num_copies;
};

/// A linear, its packed weights `num_copies` times, and codes of 64 tokens, with some behind.
struct Operands {
  explicit Operands(const Shape& shape)
      : weight_bytes(int64_t{shape.num_tiles} * shape.blocks * 8192),
        num_copies(shape.num_copies),
        packed(static_cast<size_t>(num_copies * weight_bytes)),
        multiplier(static_cast<size_t>(shape.num_tiles) * shape.blocks * 128),
        offset(multiplier.bytes()),
        codes(static_cast<size_t>(shape.blocks) * 128 * kMaxSplitTokens + kRepeats * kCodesApart),
        channel_scale(random_floats(int64_t{shape.num_tiles} * 128, 5)),
        bias(random_floats(int64_t{shape.num_tiles} * 128, 7)),
        x_scales(random_floats(int64_t{2} * kMaxSplitTokens, 6)),
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
         mode_of(args) + ", tiles of " + std::to_string(plan.tile_rows) + " x " +
         std::to_string(plan.tile_tokens) + ", teams " + std::to_string(plan.num_teams) +
         ", splits " + std::to_string(plan.num_splits) + (plan.is_alone ? ", alone" : "");
}

/// Every cut: the least tile that holds all tokens, and the next.
std::vector<SplitPlan> plans_of(const GemmArgs& args) {
  std::vector<SplitPlan> plans;
  for (const int32_t rows : {128, 64}) {
    for (const int32_t tokens : {16, 32, 64}) {
      if (tokens >= 4 * std::max(args.tokens, 8)) continue;
      for (const int32_t teams : {1, 2, 3, 4}) {
        for (int32_t splits = 1; splits <= kMaxSplits; ++splits) {
          for (const bool is_alone : {false, true}) {
            const SplitPlan plan{tokens, teams, splits, rows, is_alone};
            if (split_suits(args, plan)) plans.push_back(plan);
          }
        }
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

Launch mma_of(const CudaResources& gpu, const Operands& operands, const GemmArgs& args) {
  const GemmPlan plan = plan_gemm(args, gpu.num_sms);
  COMET_CHECK(plan.workspace_bytes <= kWorkspaceBytes, "{} bytes", plan.workspace_bytes);
  return [&gpu, &operands, plan](const GemmArgs& a) {
    gemm_mma(a, plan, operands.workspace.get(), operands.counters.get(), gpu.stream);
  };
}

std::vector<uint8_t> wanted(const CudaResources& gpu, const Operands& operands,
                            const GemmArgs& args) {
  return outputs_of(mma_of(gpu, operands, args), args, gpu.stream);
}

/// Outputs of these cuts, in both types, with and without bias.
void check_ragged(const CudaResources& gpu, const Operands& operands, GemmArgs args,
                  const std::vector<SplitPlan>& plans) {
  const DeviceArray<float> out(static_cast<size_t>(args.tokens * args.out_stride));
  args.out = out.get();
  for (const bool is_bf16 : {false, true}) {
    args.out_is_bf16 = is_bf16;
    args.bias = is_bf16 ? operands.bias.get() : nullptr;
    const std::vector<uint8_t> want = wanted(gpu, operands, args);
    for (const SplitPlan& plan : plans) {
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
                             {1, 224, 126, 1},
                             {1, 225, 126, 1}}) {
    const Operands operands(shape);
    for (const WeightKind kind : {WeightKind::kProgressive, WeightKind::kChannel}) {
      for (const int32_t int4_blocks : {0, 1, shape.blocks / 2, shape.blocks - 1, shape.blocks}) {
        for (const int32_t tokens : {1, 3, 16, 17, 33, 64}) {
          const GemmArgs args = operands.args_of(kind, tokens, int4_blocks);
          check_ragged(*gpu, operands, args, plans_of(args));
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

/// Few CTAs and stages filled again, for compute-sanitizer.
/// One kind of weights, tokens, INT4 blocks of 41, and CTAs alone on an SM or not, a test:
/// racecheck takes its time.
using CutsCase = std::tuple<WeightKind, int32_t, int32_t, bool>;
class W4axSplitCutsCuda : public ::testing::TestWithParam<CutsCase> {};

TEST_P(W4axSplitCutsCuda, SmallShapesOfEveryCut) {
  const auto gpu = testing::open_gpu();
  if (!gpu || gpu->sm != 90) GTEST_SKIP() << "no GPU of sm_90";
  const Operands operands({1, 41, 120, 1});
  const auto [kind, tokens, int4_blocks, is_alone] = GetParam();
  const GemmArgs args = operands.args_of(kind, tokens, int4_blocks);
  std::vector<SplitPlan> plans = plans_of(args);
  std::erase_if(plans, [&](const SplitPlan& plan) { return plan.is_alone != is_alone; });
  ASSERT_FALSE(plans.empty());
  check_ragged(*gpu, operands, args, plans);
}

std::string cuts_name(const ::testing::TestParamInfo<CutsCase>& info) {
  const auto [kind, tokens, int4_blocks, is_alone] = info.param;
  return std::string(kind == WeightKind::kChannel ? "Channel" : "Progressive") + "Tokens" +
         std::to_string(tokens) + "Int4Blocks" + std::to_string(int4_blocks) +
         (is_alone ? "Alone" : "");
}

INSTANTIATE_TEST_SUITE_P(
    Cuts, W4axSplitCutsCuda,
    ::testing::Combine(::testing::Values(WeightKind::kChannel, WeightKind::kProgressive),
                       ::testing::Values(16, 30, 60), ::testing::Values(0, 40), ::testing::Bool()),
    cuts_name);

double time_us(const Launch& launch, GemmArgs args, const Operands& operands, cudaStream_t stream) {
  return testing::median_launch_us(stream, kLaunches, [&](int i) {
    args.packed = operands.packed.get() + i % operands.num_copies * operands.weight_bytes;
    launch(args);
  });
}

/// A line of JSON, see below. `ctas`: of other kernels; clusters that fit the card.
void print_line(const GemmArgs& args, const SplitPlan& plan, int ctas, double us) {
  std::printf("[%d, %d, %d, \"%s\", %d, %d, %d, %d, %.2f, %d, %d],\n", args.tokens,
              args.num_tiles * 128, args.blocks * 128, mode_of(args), plan.tile_tokens,
              plan.num_teams, plan.num_splits, ctas, us, plan.tile_rows, plan.is_alone ? 1 : 0);
  std::fflush(stdout);  // a launch that does not end is the one behind the last line
}

/// Products of kRepeats weights and codes, one launch right behind the other, to find what is wrong
/// only now and then, where copies come late.
class Repeats {
 public:
  Repeats(const Operands& operands, const GemmArgs& args)
      : operands_(operands),
        args_(args),
        num_outputs_(static_cast<size_t>(args.tokens) * args.num_tiles * 128),
        out_(kRepeats * num_outputs_) {
    args_.out_is_bf16 = true;
  }
  [[nodiscard]] std::vector<uint8_t> outputs_of(const Launch& launch, cudaStream_t stream) const {
    std::vector<uint8_t> host(kRepeats * num_outputs_ * 2);
    COMET_CUDA(cudaMemsetAsync(out_.get(), 0xFF, host.size(), stream));
    for (int i = 0; i < kRepeats; ++i) {
      GemmArgs args = args_;
      args.packed = operands_.packed.get() + i % operands_.num_copies * operands_.weight_bytes;
      args.codes += i * kCodesApart;
      args.out = out_.get() + static_cast<size_t>(i) * num_outputs_;
      launch(args);
    }
    COMET_CUDA(cudaStreamSynchronize(stream));
    COMET_CUDA(cudaMemcpy(host.data(), out_.get(), host.size(), cudaMemcpyDeviceToHost));
    return host;
  }

 private:
  const Operands& operands_;
  GemmArgs args_;
  size_t num_outputs_;
  DeviceArray<uint16_t> out_;
};

/// Of gemm_sm90: the cut that it takes itself, then wide tiles, whole and shared by clusters.
std::vector<Sm90Plan> tile_plans_of(const GemmArgs& args, int num_sms) {
  std::vector<Sm90Plan> plans{plan_gemm_sm90(args, num_sms)};
  if (args.tokens <= 16) return plans;
  for (const int32_t rows : {128, 256}) {
    for (int32_t splits = 1; splits <= sm90_most_splits(rows, 64); ++splits) {
      Sm90Plan plan{rows, 64, num_sms};
      plan.is_wide = true;
      plan.num_splits = splits;
      if (!sm90_wide_suits(args, plan)) continue;
      plan = cut_gemm_sm90(args, plan, true);
      if (plan.num_ctas <= 3 * num_sms) plans.push_back(plan);
    }
  }
  return plans;
}

void check_tiles(const CudaResources& gpu, const Operands& operands, const GemmArgs& args,
                 const std::vector<uint8_t>& want) {
  const std::vector<Sm90Plan> plans = tile_plans_of(args, gpu.num_sms);
  for (size_t i = 0; i < plans.size(); ++i) {
    const Sm90Plan& plan = plans[i];
    const Launch launch = [&](const GemmArgs& a) {
      run_gemm_sm90(a, plan, operands.workspace.get(), operands.counters.get(), gpu.stream);
    };
    ASSERT_TRUE(want == outputs_of(launch, args, gpu.stream))
        << plan.tile_rows << " x " << plan.tile_tokens << ", splits " << plan.num_splits;
    const int clusters = plan.num_splits > 1 ? count_sm90_clusters(args, plan) : plan.num_ctas;
    print_line(args, {plan.tile_tokens, 0, i == 0 ? 0 : plan.num_splits, plan.tile_rows}, clusters,
               time_us(launch, args, operands, gpu.stream));
  }
}

enum class Cuts { kNone, kOwn, kManyRounds };

/// Clusters that come in several rounds do not pay, and more than a few are not run.
Cuts cuts_of(const GemmArgs& args, const SplitPlan& plan, int num_sms) {
  const int ctas = args.num_tiles * 128 / plan.tile_rows * plan.num_splits;
  if (plan.num_splits > 1 && ctas > 6 * num_sms) return Cuts::kNone;
  return plan.num_splits > 1 && ctas > 3 * num_sms ? Cuts::kManyRounds : Cuts::kOwn;
}

/// Of Cuts::kOwn also what gemm_sm90 does.
void check_linear(const CudaResources& gpu, const Operands& operands, GemmArgs args, Cuts cuts) {
  const DeviceArray<uint16_t> out(static_cast<size_t>(args.tokens) * args.num_tiles * 128);
  args.out = out.get();
  args.out_is_bf16 = true;
  const std::vector<uint8_t> want = wanted(gpu, operands, args);
  if (cuts == Cuts::kOwn) check_tiles(gpu, operands, args, want);
  if (::testing::Test::HasFatalFailure()) return;
  for (const SplitPlan& plan : plans_of(args)) {
    if (cuts_of(args, plan, gpu.num_sms) != cuts) continue;
    const Launch split = [&](const GemmArgs& a) { run_gemm_split(a, plan, gpu.stream); };
    ASSERT_TRUE(want == outputs_of(split, args, gpu.stream)) << label(args, plan);
    print_line(args, plan, count_split_clusters(args, plan),
               time_us(split, args, operands, gpu.stream));
  }
}

/// Every cut, kRepeats times, with no pause between launches.
void check_repeats(const CudaResources& gpu, const Operands& operands, const GemmArgs& args) {
  const Repeats repeats(operands, args);
  const std::vector<uint8_t> want = repeats.outputs_of(mma_of(gpu, operands, args), gpu.stream);
  for (const Sm90Plan& plan : tile_plans_of(args, gpu.num_sms)) {
    const Launch tiles = [&](const GemmArgs& a) {
      run_gemm_sm90(a, plan, operands.workspace.get(), operands.counters.get(), gpu.stream);
    };
    ASSERT_TRUE(want == repeats.outputs_of(tiles, gpu.stream))
        << mode_of(args) << ", " << args.tokens << " tokens, " << plan.tile_rows << " x "
        << plan.tile_tokens << ", splits " << plan.num_splits;
  }
  for (const SplitPlan& plan : plans_of(args)) {
    if (cuts_of(args, plan, gpu.num_sms) == Cuts::kNone) continue;
    const Launch split = [&](const GemmArgs& a) { run_gemm_split(a, plan, gpu.stream); };
    std::printf("%s\n", label(args, plan).c_str());
    std::fflush(stdout);  // as in print_line()
    ASSERT_TRUE(want == repeats.outputs_of(split, gpu.stream)) << label(args, plan);
  }
}

/// Lines of JSON: m, n, k, mode, tokens of a tile, teams, splits, clusters that fit the card, µs,
/// rows of a tile, whether a CTA is alone on its SM. Of gemm_sm90: teams 0; splits 0 what it takes
/// itself; CTAs where it has no clusters.
class W4axSplitPlansCuda : public ::testing::TestWithParam<std::pair<int, int>> {};

using Check = std::function<void(const CudaResources&, const Operands&, const GemmArgs&)>;

void check_all(std::pair<int, int> shape, std::initializer_list<int32_t> all_tokens,
               const Check& check) {
  const auto gpu = testing::open_gpu();
  if (!gpu || gpu->sm != 90) GTEST_SKIP() << "no GPU of sm_90";
  const auto& [n, k] = shape;
  const int64_t bytes = int64_t{n} * k / 2;
  const Operands operands({n / 128, k / 128, 128, std::max<int64_t>(2, kRotatedBytes / bytes)});
  for (const int32_t tokens : all_tokens) {
    for (const WeightKind kind : {WeightKind::kProgressive, WeightKind::kChannel}) {
      const int32_t int4_blocks = kind == WeightKind::kProgressive ? 0 : k / 128 - 1;
      check(*gpu, operands, operands.args_of(kind, tokens, int4_blocks));
      if (::testing::Test::HasFatalFailure()) return;
    }
  }
}

Check check_of(Cuts cuts) {
  return [cuts](const CudaResources& gpu, const Operands& operands, const GemmArgs& args) {
    check_linear(gpu, operands, args, cuts);
  };
}

TEST_P(W4axSplitPlansCuda, SameBitsWhateverThePlan) {
  check_all(GetParam(), {16, 32, 64}, check_of(Cuts::kOwn));
}
TEST_P(W4axSplitPlansCuda, SameBitsOfManyRounds) {
  check_all(GetParam(), {16, 32, 64}, check_of(Cuts::kManyRounds));
}
TEST_P(W4axSplitPlansCuda, SameBitsEachTime) { check_all(GetParam(), {16, 32, 64}, check_repeats); }

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
