// The 8-bit products on a GPU: s8 bit for bit, E4M3 within 4e-3 of the largest output, for every
// kernel and every way of cutting a product, on ragged shapes and on those of LLaMA-3.
#include "comet/formats/w8a8/cuda/gemm.h"

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <string>

#include "comet/formats/w8a8/cuda/gemm_case.h"
#include "comet/formats/w8a8/cuda/gemm_sm90.h"

namespace comet::formats::w8a8 {
namespace {

using testing::DeviceArray;

struct Kernel {
  std::string name;
  std::function<void(const GemmArgs&, cudaStream_t)> run;
};

Kernel sm90_kernel(const Sm90Plan& plan) {
  return {"sm90 tokens=" + std::to_string(plan.tile_tokens) +
              " splits=" + std::to_string(plan.num_splits),
          [plan](const GemmArgs& args, cudaStream_t stream) { run_gemm_sm90(args, plan, stream); }};
}

std::vector<Kernel> kernels(int sm, bool is_e4m3) {
  std::vector<Kernel> list{{"mma", launch_gemm_mma}};
  if (sm != 90) return list;
  for (const int tokens : {16, 32, 64, 128, 256}) {
    if (tokens == 256 && is_e4m3) continue;
    for (const int splits : {1, 2, 8}) list.push_back(sm90_kernel({tokens, splits}));
  }
  return list;
}

/// FP32 outputs [rows, out_stride] of the first rows, without bias.
std::vector<float> run_rows(const Kernel& kernel, const GemmCase& gemm, int32_t rows,
                            cudaStream_t stream) {
  const DeviceArray<float> out(static_cast<size_t>(rows * gemm.out_stride()));
  GemmArgs args = gemm.args(out.get(), false, false);
  args.rows = rows;
  kernel.run(args, stream);
  return out.to_host();
}

/// Outputs [rows, out_stride] as FP32.
std::vector<float> run(const Kernel& kernel, const GemmCase& gemm, bool is_bf16, bool has_bias,
                       cudaStream_t stream) {
  const auto count = static_cast<size_t>(gemm.shape().rows * gemm.out_stride());
  if (!is_bf16) {
    const DeviceArray<float> out(count);
    kernel.run(gemm.args(out.get(), false, has_bias), stream);
    return out.to_host();
  }
  const DeviceArray<BFloat16> out(count);
  kernel.run(gemm.args(out.get(), true, has_bias), stream);
  std::vector<float> values(count);
  std::ranges::transform(out.to_host(), values.begin(), [](BFloat16 y) { return to_float(y); });
  return values;
}

/// Sums of a case by definition, and its largest output.
struct Expected {
  std::vector<double> sums;  // [rows, n]
  double largest = 0;
};

Expected expected_of(const GemmCase& gemm) {
  Expected expected;
  const GemmShape& shape = gemm.shape();
  for (int64_t row = 0; row < shape.rows; ++row) {
    for (int64_t channel = 0; channel < shape.n; ++channel) {
      expected.sums.push_back(gemm.sum(row, channel));
      const float y = gemm.result(expected.sums.back(), row, channel, false);
      expected.largest = std::max(expected.largest, std::abs(double{y}));
    }
  }
  return expected;
}

/// An empty string, or what is wrong first.
std::string first_error(const GemmCase& gemm, const Expected& expected,
                        const std::vector<float>& out, bool is_bf16, bool has_bias) {
  const GemmShape& shape = gemm.shape();
  for (int64_t row = 0; row < shape.rows; ++row) {
    for (int64_t column = 0; column < gemm.out_stride(); ++column) {
      const float got = out[static_cast<size_t>(row * gemm.out_stride() + column)];
      const std::string place = fmt::format("row {}, column {}: {}", row, column, got);
      if (column >= shape.n) {
        if (!std::isnan(got)) return place + " was written behind n";
        continue;
      }
      const double sum = expected.sums[static_cast<size_t>(row * shape.n + column)];
      float want = gemm.result(sum, row, column, has_bias);
      if (is_bf16) want = to_float(to_bfloat16(want));
      const double rounding = is_bf16 ? std::abs(double{want}) / 128 : 0;
      const double tolerance = shape.is_e4m3 ? 4e-3 * expected.largest + rounding : 0;
      if (!(std::abs(double{got} - double{want}) <= tolerance)) {
        return place + fmt::format(", not {}", want);
      }
    }
  }
  return {};
}

void check_all_kernels(const GemmShape& shape, const CudaResources& gpu) {
  const GemmCase gemm(shape);
  const Expected expected = expected_of(gemm);
  for (const Kernel& kernel : kernels(gpu.sm, shape.is_e4m3)) {
    for (const bool is_bf16 : {false, true}) {
      const bool has_bias = is_bf16;
      const std::vector<float> out = run(kernel, gemm, is_bf16, has_bias, gpu.stream);
      EXPECT_EQ(first_error(gemm, expected, out, is_bf16, has_bias), "")
          << kernel.name << ", " << shape.rows << " x " << shape.n << " x " << shape.k
          << (is_bf16 ? " BF16 with bias" : " F32");
    }
  }
}

constexpr int32_t kRaggedShapes[][2] = {{1, 1},     {5, 63},     {128, 128}, {131, 200},
                                        {384, 384}, {257, 1040}, {129, 4097}};

TEST(W8A8GemmCuda, RaggedInt8BitForBit) {
  const auto gpu = testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  for (const auto& [n, k] : kRaggedShapes) {
    for (const int32_t rows : {1, 3, 16, 17, 64, 100, 129, 256, 300}) {
      check_all_kernels({rows, n, k, false}, *gpu);
    }
  }
}

TEST(W8A8GemmCuda, RaggedE4M3) {
  const auto gpu = testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  for (const auto& [n, k] : kRaggedShapes) {
    for (const int32_t rows : {1, 3, 16, 64, 100, 129}) {
      check_all_kernels({rows, n, k, true}, *gpu);
    }
  }
}

/// Every kernel with few CTAs, for compute-sanitizer: 9 steps of k, so that stages are filled
/// again.
TEST(W8A8GemmCuda, SmallProductsOfEveryKernel) {
  const auto gpu = testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  for (const bool is_e4m3 : {false, true}) check_all_kernels({17, 131, 1040, is_e4m3}, *gpu);
}

/// Sums of one sign: what an accumulator of too few bits loses shows here.
TEST(W8A8GemmCuda, LongE4M3SumsOfOneSign) {
  const auto gpu = testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  constexpr int64_t kK = 28672;
  const std::vector<uint8_t> codes(static_cast<size_t>(16 * kK), 0x3B);  // 1.375
  const std::vector<float> ones(16, 1.0F);
  const DeviceArray<uint8_t> device_codes(codes);
  const DeviceArray<float> device_ones(ones);
  GemmArgs args;
  args.x = args.w = device_codes.get();
  args.x_scale = args.w_scale = device_ones.get();
  args.x_stride = args.w_stride = kK;
  args.out_stride = 16;
  args.rows = args.n = 16;
  args.k = kK;
  args.is_e4m3 = true;
  for (const Kernel& kernel : kernels(gpu->sm, true)) {
    const DeviceArray<float> out(16 * 16);
    args.out = out.get();
    kernel.run(args, gpu->stream);
    for (const float y : out.to_host()) {
      ASSERT_NEAR(y, 1.375 * 1.375 * kK, 1e-3 * kK) << kernel.name;
    }
  }
}

/// A row that had NaN has codes of 0 and a scale of NaN; others do not notice.
TEST(W8A8GemmCuda, NanScaleMakesItsRowNan) {
  const auto gpu = testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  const std::vector<uint8_t> codes(4 * 128, 1);
  std::vector<float> scales(4, 1.0F);
  scales[2] = std::numeric_limits<float>::quiet_NaN();
  const DeviceArray<uint8_t> device_codes(codes);
  const DeviceArray<float> x_scale(scales);
  const DeviceArray<float> w_scale(std::vector<float>(4, 1.0F));
  GemmArgs args;
  args.x = args.w = device_codes.get();
  args.x_scale = x_scale.get();
  args.w_scale = w_scale.get();
  args.x_stride = args.w_stride = args.k = 128;
  args.out_stride = args.rows = args.n = 4;
  for (const Kernel& kernel : kernels(gpu->sm, false)) {
    const DeviceArray<float> out(16);
    args.out = out.get();
    kernel.run(args, gpu->stream);
    const std::vector<float> y = out.to_host();
    for (size_t i = 0; i < 16; ++i) {
      if (i / 4 == 2) {
        EXPECT_TRUE(std::isnan(y[i])) << kernel.name << " " << i;
      } else {
        EXPECT_EQ(y[i], 128.0F) << kernel.name << " " << i;
      }
    }
  }
}

constexpr int32_t kLlamaShapes[][2] = {{6144, 4096},  {4096, 4096}, {28672, 4096}, {4096, 14336},
                                       {10240, 8192}, {8192, 8192}, {57344, 8192}, {8192, 28672}};

/// The plan that a backend takes against the simple kernel, all outputs; and both against the
/// definition, some outputs.
void check_llama_shape(const GemmCase& gemm, int32_t rows, const CudaResources& gpu) {
  const Kernel mma{"mma", launch_gemm_mma};
  const Kernel planned{"planned", [&](const GemmArgs& args, cudaStream_t stream) {
                         run_gemm_sm90(args, plan_gemm_sm90(args, gpu.num_sms), stream);
                       }};
  const std::vector<float> simple = run_rows(mma, gemm, rows, gpu.stream);
  const GemmShape& shape = gemm.shape();
  std::mt19937_64 random(7);
  for (int i = 0; i < 500; ++i) {
    const auto row = static_cast<int64_t>(random() % static_cast<uint64_t>(rows));
    const auto column = static_cast<int64_t>(random() % static_cast<uint64_t>(shape.n));
    const float want = gemm.result(gemm.sum(row, column), row, column, false);
    ASSERT_EQ(simple[static_cast<size_t>(row * gemm.out_stride() + column)], want)
        << row << ", " << column << " of " << rows << " x " << shape.n << " x " << shape.k;
  }
  if (gpu.sm != 90) return;
  const std::vector<float> other = run_rows(planned, gemm, rows, gpu.stream);
  // As bits: the guard columns are NaN.
  EXPECT_EQ(std::memcmp(simple.data(), other.data(), simple.size() * sizeof(float)), 0)
      << rows << " x " << shape.n << " x " << shape.k;
}

TEST(W8A8GemmCuda, LlamaShapesBitForBit) {
  const auto gpu = testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  for (const auto& [n, k] : kLlamaShapes) {
    const GemmCase gemm({1024, n, k, false});
    for (const int32_t rows : {1, 3, 16, 64, 100, 256, 1024}) {
      check_llama_shape(gemm, rows, *gpu);
    }
  }
}

TEST(W8A8GemmCuda, VocabularyHead) {
  const auto gpu = testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  const GemmCase gemm({200, 128256, 4096, false});
  for (const int32_t rows : {1, 64, 200}) check_llama_shape(gemm, rows, *gpu);
}

TEST(W8A8GemmCuda, NoRowsLaunchNothing) {
  const auto gpu = testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  GemmArgs args;
  args.n = args.k = 128;
  launch_gemm_mma(args, gpu->stream);
  run_gemm_sm90(args, {}, gpu->stream);
  COMET_CUDA(cudaStreamSynchronize(gpu->stream));
}

}  // namespace
}  // namespace comet::formats::w8a8
