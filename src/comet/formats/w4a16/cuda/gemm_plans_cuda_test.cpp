// What each tile and split of w4a16's wgmma kernel takes on the linears of LLaMA-3 (weights from
// memory, launches in a graph), printed to choose plan_gemm_wgmma() by; and that all of them give
// the same outputs but for the order of sums.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "comet/formats/w4a16/cuda/gemm_case.h"
#include "support/gpu_time.h"

namespace comet::formats::w4a16_cuda {
namespace {

constexpr int64_t kRotatedBytes = int64_t{192} << 20;  // of weights: more than L2 holds
constexpr int kLaunches = 12;
constexpr int kMostCtas = 132;

/// A weight again and again, inputs and one output.
struct Buffers {
  Buffers(const WeightCase& c, int32_t rows)
      : blocks(blocks_of(PackedRows{}, c.n, c.k_padded())),
        num_copies(std::max<int64_t>(2, kRotatedBytes / blocks.num_bytes())),
        weights(static_cast<size_t>(num_copies * blocks.num_bytes())),
        x(HostInput(rows, c.k).bits),
        workspace(static_cast<size_t>(
            wgmma_workspace_floats({std::min(rows, 64), kMostCtas, TileShape::kTall}))),
        out(static_cast<size_t>(rows) * static_cast<size_t>(c.n)) {
    // One weight's worth of blocks: any nibbles, scales of about 2⁻⁷.
    std::vector<uint8_t> bytes(static_cast<size_t>(blocks.num_bytes()));
    Rng rng(23);
    for (size_t i = 0; i + 8 <= bytes.size(); i += 8) {
      const uint64_t bits = rng.next_bits();
      std::memcpy(&bytes[i], &bits, 8);
    }
    const auto block = static_cast<size_t>(blocks.block_bytes());
    for (size_t at = kWordBytes; at < bytes.size(); at += block) {
      for (size_t i = 0; i < size_t{2} * kBlockRows; i += 2) {
        bytes[at + i + 1] = 0x3C;
        bytes[at + i] &= 0x7F;
      }
    }
    for (int64_t i = 0; i < num_copies; ++i) {
      COMET_CUDA(cudaMemcpy(weights.get() + i * blocks.num_bytes(), bytes.data(), bytes.size(),
                            cudaMemcpyHostToDevice));
    }
  }

  [[nodiscard]] GemmArgs args(const WeightCase& c, int32_t rows, uint32_t* arrivals) const {
    GemmArgs args;
    args.blocks = blocks;
    args.blocks.data = weights.get();
    args.x = x.get();
    args.x_stride = args.k = c.k;
    args.rows = rows;
    args.out = out.get();
    args.out_stride = c.n;
    args.workspace = workspace.get();
    args.arrivals = arrivals;
    return args;
  }

  Blocks blocks;
  int64_t num_copies;
  DeviceArray<uint8_t> weights;
  DeviceArray<uint16_t> x;
  DeviceArray<float> workspace;
  DeviceArray<uint16_t> out;
};

/// CTAs of tall tiles to try: all SMs, and as many as give each the same part of one tile or whole
/// tiles.
std::vector<int32_t> ctas_of(const GemmArgs& args, int num_sms) {
  const int32_t tiles = (args.blocks.n + kRowPadding - 1) / kRowPadding;
  const int32_t rounds = (tiles + num_sms - 1) / num_sms;
  const int32_t even = tiles <= num_sms ? num_sms / tiles * tiles : (tiles + rounds - 1) / rounds;
  return {num_sms, even};
}

double time_us(const Buffers& buffers, GemmArgs args, const GemmPlan& plan, cudaStream_t stream) {
  const CUtensorMap map =
      make_tensor_map({args.x, DType::kBF16, args.rows, args.k, args.x_stride, plan.tile_tokens});
  return testing::median_launch_us(stream, kLaunches, [&](int i) {
    args.blocks.data = buffers.weights.get() + i % buffers.num_copies * buffers.blocks.num_bytes();
    launch_gemm_wgmma(args, plan, &map, stream);
  });
}

std::vector<float> outputs_of(const Buffers& buffers) {
  std::vector<float> values;
  for (const uint16_t bits : buffers.out.to_host()) values.push_back(to_float(BFloat16{bits}));
  return values;
}

void expect_alike(const std::vector<float>& got, const std::vector<float>& want) {
  float largest = 0;
  for (const float y : want) largest = std::max(largest, std::abs(y));
  size_t num_far = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    if (!(std::abs(got[i] - want[i]) <= 0x1p-7F * std::abs(want[i]) + 1e-4F * largest)) ++num_far;
  }
  EXPECT_EQ(num_far, 0U);
}

void time_plans(const CudaResources& gpu, const WeightCase& c, int32_t rows) {
  const Buffers buffers(c, rows);
  const GemmArgs args = buffers.args(c, rows, gpu.arrivals);
  const GemmPlan chosen = plan_gemm_wgmma(args, gpu.num_sms);
  const int32_t tokens = rows <= 16 ? 16 : rows <= 32 ? 32 : rows <= 64 ? 64 : 128;
  std::vector<int32_t> splits{1, 2, 3};
  if (rows <= 64) splits.insert(splits.end(), {4, 5, 6, 7, 8});
  std::vector<float> want;
  for (GemmPlan plan : tiles_of(Kernel::kWgmma, buffers.blocks)) {
    if (plan.tile_tokens != tokens) continue;
    const bool is_tall = plan.shape == TileShape::kTall;
    for (const int32_t num_splits : is_tall ? ctas_of(args, gpu.num_sms) : splits) {
      plan.num_splits = num_splits;
      SCOPED_TRACE(plan_text(plan));
      COMET_CUDA(cudaMemset(buffers.out.get(), 0xFF, buffers.out.bytes()));
      const double us = time_us(buffers, args, plan, gpu.stream);
      const bool is_chosen = plan.shape == chosen.shape && plan.num_splits == chosen.num_splits;
      std::printf("%5d x %5d x %5d %-16s %7.2f us %5.0f GB/s%s\n", rows, c.n, c.k,
                  plan_text(plan).c_str(), us,
                  static_cast<double>(buffers.blocks.num_bytes()) / us / 1e3,
                  is_chosen ? "  chosen" : "");
      const std::vector<float> got = outputs_of(buffers);
      if (want.empty()) want = got;
      expect_alike(got, want);
    }
  }
}

TEST(W4a16PlansCuda, EveryTileAndSplitOfLlama) {
  const auto gpu = testing::open_gpu();
  if (!gpu || gpu->sm != 90) GTEST_SKIP() << "no GPU of sm_90";
  ASSERT_LE(gpu->num_sms, kMostCtas);
  constexpr int32_t kShapes[][2] = {{6144, 4096},  {4096, 4096}, {28672, 4096}, {4096, 14336},
                                    {10240, 8192}, {8192, 8192}, {57344, 8192}, {8192, 28672}};
  for (const auto& [n, k] : kShapes) {
    for (const int32_t rows : {16, 32, 64, 256}) time_plans(*gpu, {n, k}, rows);
  }
}

}  // namespace
}  // namespace comet::formats::w4a16_cuda
