// The sm_80 kernel against w4ax_mma and against sums written out, bit for bit, under schedules of
// its own plan and under random ones. Cards from sm_90 on emulate its s4 products, so this says
// that it is right and nothing of its speed. W4axCuda.* run it as a row of the backend.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "comet/formats/w4ax/cuda/gemm_test_data.h"
#include "comet/formats/w4ax/cuda/sm80/gemm_sm80.h"
#include "comet/formats/w4ax/layout.h"

namespace comet::formats::w4ax::cuda {
namespace {

using testing::DeviceArray;

struct Case {
  int32_t num_tiles = 1;
  int32_t last_rows = 128;  // of the last tile; the rest of its rows are padding
  int32_t blocks = 1;
  int32_t int4_blocks = 1;
  int32_t tokens = 1;
  bool has_bias = false;

  [[nodiscard]] int64_t k() const { return int64_t{blocks} * 128; }
  [[nodiscard]] int32_t n() const { return (num_tiles - 1) * 128 + last_rows; }
};

/// Bytes of any value in INT8 blocks, of −8 … 7 in INT4 blocks.
std::vector<uint8_t> random_codes(const Case& c) {
  std::vector<uint8_t> codes = random_bytes(c.tokens * c.k(), 11, 0, 255);
  for (size_t i = 0; i < codes.size(); ++i) {
    if (static_cast<int64_t>(i) % c.k() >= int64_t{c.int4_blocks} * 128) continue;
    codes[i] = static_cast<uint8_t>(sign_extend4(codes[i] & 15));
  }
  return codes;
}

/// A product on the device; the frame of outputs is larger than what may be written.
class Product {
 public:
  explicit Product(const Case& c, bool is_bf16 = false)
      : c_(c),
        host_packed_(random_bytes(int64_t{c.num_tiles} * c.blocks * 8192, 1, 0, 255)),
        host_codes_(random_codes(c)),
        host_channel_scale_(random_floats(int64_t{c.num_tiles} * 128, 5)),
        host_x_scales_(random_floats(int64_t{2} * c.tokens, 6)),
        packed_(host_packed_),
        codes_(host_codes_),
        channel_scale_(host_channel_scale_),
        x_scales_(host_x_scales_),
        bias_(random_floats(c.n(), 7)),
        tiles_(tiles_of(c.num_tiles, 128, c.last_rows)),
        counters_(std::vector<int32_t>(static_cast<size_t>(kNumCounters), 0)),
        out_(static_cast<size_t>((c.tokens + 1) * stride() * 4)) {
    args.packed = packed_.get();
    args.channel_scale = channel_scale_.get();
    args.bias = c.has_bias ? bias_.get() : nullptr;
    args.tiles = tiles_.get();
    args.num_tiles = c.num_tiles;
    args.blocks = c.blocks;
    args.int4_blocks = c.int4_blocks;
    args.out_is_bf16 = is_bf16;
    args.tokens = c.tokens;
    args.codes = reinterpret_cast<const int8_t*>(codes_.get());
    args.x_scales = x_scales_.get();
    args.out = out_.get();
    args.out_stride = stride();
  }

  std::vector<uint8_t> by_mma(const CudaResources& gpu) {
    const GemmPlan plan = plan_gemm(args, gpu.num_sms);
    const DeviceArray<uint8_t> workspace(static_cast<size_t>(plan.workspace_bytes));
    return run([&] {
      gemm_mma(args, plan, workspace.get(), counters_.get(), gpu.stream);
      COMET_CUDA(cudaStreamSynchronize(gpu.stream));
    });
  }
  std::vector<uint8_t> by_sm80(const CudaResources& gpu, const Sm80Plan& plan) {
    const DeviceArray<uint8_t> workspace(static_cast<size_t>(plan.workspace_bytes));
    return run([&] {
      gemm_sm80(args, plan, workspace.get(), counters_.get(), gpu.stream);
      COMET_CUDA(cudaStreamSynchronize(gpu.stream));
    });
  }
  [[nodiscard]] bool counters_are_zero() const {
    const std::vector<int32_t> counters = counters_.to_host();
    return std::all_of(counters.begin(), counters.end(), [](int32_t x) { return x == 0; });
  }
  /// y by definition: sums of the nibbles where layout.h says that they lie.
  [[nodiscard]] float value(int32_t token, int32_t row) const;

  GemmArgs args;

 private:
  [[nodiscard]] int64_t stride() const { return c_.n() + 3; }

  template <class Launch>
  std::vector<uint8_t> run(const Launch& launch) {
    COMET_CUDA(cudaMemset(out_.get(), 0xFF, out_.bytes()));
    COMET_CUDA(cudaDeviceSynchronize());
    launch();
    return out_.to_host();
  }

  Case c_;
  std::vector<uint8_t> host_packed_;
  std::vector<uint8_t> host_codes_;
  std::vector<float> host_channel_scale_;
  std::vector<float> host_x_scales_;
  DeviceArray<uint8_t> packed_;
  DeviceArray<uint8_t> codes_;
  DeviceArray<float> channel_scale_;
  DeviceArray<float> x_scales_;
  DeviceArray<float> bias_;
  DeviceArray<OutputTile> tiles_;
  DeviceArray<int32_t> counters_;
  DeviceArray<uint8_t> out_;
};

float Product::value(int32_t token, int32_t row) const {
  int32_t sums[2] = {0, 0};
  for (int64_t k = 0; k < c_.k(); ++k) {
    const NibblePosition p = nibble_position(row, k, c_.blocks);
    const int weight = sign_extend4(host_packed_[static_cast<size_t>(p.byte)] >> p.shift & 15);
    const auto code = static_cast<int8_t>(host_codes_[static_cast<size_t>(token * c_.k() + k)]);
    sums[k >= int64_t{c_.int4_blocks} * 128 ? 1 : 0] += weight * code;
  }
  const float* scale = &host_x_scales_[2 * static_cast<size_t>(token)];
  const float low = scale[0] * static_cast<float>(sums[0]);
  float value = std::fmaf(scale[1], static_cast<float>(sums[1]), low);
  if (c_.int4_blocks == 0) value = scale[1] * static_cast<float>(sums[1]);
  if (c_.int4_blocks == c_.blocks) value = low;
  return host_channel_scale_[static_cast<size_t>(row)] * value;
}

std::string label(const Case& c) {
  return "tiles " + std::to_string(c.num_tiles) + " blocks " + std::to_string(c.blocks) + " int4 " +
         std::to_string(c.int4_blocks) + " tokens " + std::to_string(c.tokens);
}

void expect_mma_bits(const CudaResources& gpu, const Case& c) {
  for (const bool is_bf16 : {false, true}) {
    Product product(c, is_bf16);
    const std::vector<uint8_t> want = product.by_mma(gpu);
    for (const int ctas : {1, 7, 2 * gpu.num_sms}) {
      const Sm80Plan plan = plan_gemm_sm80(product.args, sm80_step_costs(product.args), ctas);
      ASSERT_TRUE(product.by_sm80(gpu, plan) == want) << label(c) << " by " << ctas << " CTAs";
      ASSERT_TRUE(product.counters_are_zero()) << label(c);
    }
  }
}

/// Both segments, either alone; tiles of 16, 64 and 128 tokens, whole and shared.
TEST(W4axSm80Cuda, HasTheBitsOfMma) {
  const auto gpu = testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  for (const int32_t tokens : {1, 16, 17, 64, 100, 130}) {
    for (const int32_t blocks : {1, 2, 5, 32}) {
      for (const int32_t int4_blocks : {0, blocks / 2, blocks - 1, blocks}) {
        expect_mma_bits(*gpu, {3, 40, blocks, int4_blocks, tokens, blocks == 5});
        if (HasFatalFailure()) return;
      }
    }
  }
}

/// Every kernel with few CTAs that share tiles, for compute-sanitizer.
TEST(W4axSm80Cuda, SmallProductsOfEveryTile) {
  const auto gpu = testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  for (const int32_t tokens : {9, 40, 140}) {
    Product product({2, 40, 11, 7, tokens, true});
    const std::vector<uint8_t> want = product.by_mma(*gpu);
    const Sm80Plan plan = plan_gemm_sm80_with(
        product.args, sm80_tile_tokens(product.args),
        share_tiles(sm80_grid(product.args, sm80_tile_tokens(product.args)), StepCosts{}, 5));
    ASSERT_GT(plan.parts_bytes, 0);
    ASSERT_TRUE(product.by_sm80(*gpu, plan) == want) << tokens;
  }
}

TEST(W4axSm80Cuda, HasTheBitsOfTheDefinition) {
  const auto gpu = testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  for (const Case& c : std::vector<Case>{
           {2, 9, 3, 3, 5}, {2, 128, 6, 4, 20}, {1, 77, 4, 0, 3}, {1, 128, 3, 2, 70}}) {
    Product product(c);
    const std::vector<uint8_t> got =
        product.by_sm80(*gpu, plan_gemm_sm80(product.args, StepCosts{}, 3));
    for (int32_t token = 0; token <= c.tokens; ++token) {
      for (int32_t row = 0; row < c.n() + 3; ++row) {
        float y = 0;
        const int64_t at = int64_t{token} * (c.n() + 3) + row;
        std::memcpy(&y, &got[static_cast<size_t>(at * 4)], 4);
        if (token == c.tokens || row >= c.n()) {
          ASSERT_TRUE(std::isnan(y)) << label(c) << ": wrote at " << token << ", " << row;
        } else {
          ASSERT_EQ(y, product.value(token, row)) << label(c) << " at " << token << ", " << row;
        }
      }
    }
  }
}

/// Whatever the borders: the kernel obeys.
TEST(W4axSm80Cuda, SameBitsUnderRandomSchedules) {
  const auto gpu = testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  Rng rng(17);
  for (const Case& c :
       std::vector<Case>{{3, 40, 11, 8, 150}, {3, 40, 11, 8, 50}, {2, 128, 33, 16, 12}}) {
    Product product(c);
    const std::vector<uint8_t> want = product.by_mma(*gpu);
    const int tile_tokens = sm80_tile_tokens(product.args);
    const TileGrid grid = sm80_grid(product.args, tile_tokens);
    const int32_t steps = grid.num_tiles * grid.blocks;
    for (int round = 0; round < 30; ++round) {
      TileSchedule schedule;
      const uint64_t mean = 1 + rng.next_below(20);
      for (int32_t step = 0; step < steps;) {
        step = std::min(steps, step + 1 + static_cast<int32_t>(rng.next_below(2 * mean)));
        schedule.border[++schedule.num_ctas] = step;
      }
      const Sm80Plan plan = plan_gemm_sm80_with(product.args, tile_tokens, schedule);
      ASSERT_TRUE(product.by_sm80(*gpu, plan) == want) << label(c) << " round " << round;
      ASSERT_TRUE(product.counters_are_zero());
    }
  }
}

/// A linear of LLaMA-3-8B's qkv and down, INT4 share 3/4 as in the paper's kernel tests.
TEST(W4axSm80Cuda, HasTheBitsOfMmaOnLlamaLinears) {
  const auto gpu = testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  expect_mma_bits(*gpu, {48, 128, 32, 24, 64});
  expect_mma_bits(*gpu, {32, 128, 112, 111, 16});
  expect_mma_bits(*gpu, {48, 128, 32, 24, 256});
}

}  // namespace
}  // namespace comet::formats::w4ax::cuda
