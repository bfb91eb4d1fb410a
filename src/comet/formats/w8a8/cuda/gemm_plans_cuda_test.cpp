// Every way of cutting a product gives the same bits on the linears of LLaMA-3-8B; what each takes
// is printed (weights from memory, launches in a graph), to choose plan_gemm_sm90() by.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>
#include <optional>
#include <string>

#include "comet/device/cuda/cublaslt.h"
#include "comet/formats/dense/cuda/gemv.h"
#include "comet/formats/w8a8/cuda/gemm_case.h"
#include "comet/formats/w8a8/cuda/gemm_sm90.h"
#include "support/gpu_time.h"

namespace comet::formats::w8a8 {
namespace {

using testing::DeviceArray;
using Launch = std::function<void(const GemmArgs& args)>;

constexpr int64_t kRotatedBytes = int64_t{256} << 20;  // of weights: more than L2 holds
constexpr int kLaunches = 12;

/// The case's weights again and again, and one output.
struct Buffers {
  explicit Buffers(const GemmCase& gemm, int32_t max_rows)
      : weight_bytes(int64_t{gemm.shape().n} * gemm.shape().k),
        num_copies(std::max<int64_t>(1, kRotatedBytes / weight_bytes)),
        weights(static_cast<size_t>(num_copies * weight_bytes)),
        out(static_cast<size_t>(max_rows * int64_t{gemm.shape().n})) {
    const void* one = gemm.args(nullptr, false, false).w;
    for (int64_t i = 0; i < num_copies; ++i) {
      COMET_CUDA(cudaMemcpy(weights.get() + i * weight_bytes, one,
                            static_cast<size_t>(weight_bytes), cudaMemcpyDeviceToDevice));
    }
  }
  int64_t weight_bytes;
  int64_t num_copies;
  DeviceArray<uint8_t> weights;
  DeviceArray<BFloat16> out;
};

double time_us(const Launch& launch, GemmArgs args, const Buffers& buffers, cudaStream_t stream) {
  return testing::median_launch_us(stream, kLaunches, [&](int i) {
    args.w = buffers.weights.get() + i % buffers.num_copies * buffers.weight_bytes;
    launch(args);
  });
}

void print_time(const std::string& name, const GemmArgs& args, double us, int element_bytes = 1) {
  const double products = static_cast<double>(args.n) * args.k;
  std::printf("%5d x %5d x %5d %s %-28s %8.1f us %6.0f GB/s %5.0f TOPS\n", args.rows, args.n,
              args.k, args.is_e4m3 ? "e4m3" : "s8  ", name.c_str(), us,
              products * element_bytes / us / 1e3, 2 * products * args.rows / us / 1e6);
}

std::vector<Sm90Plan> plans_of(const GemmArgs& args) {
  std::vector<Sm90Plan> plans;
  for (const int tokens : {16, 32, 64, 128, 256}) {
    if (tokens < args.rows && tokens < 64) continue;
    if (tokens >= 2 * args.rows && tokens > 16) continue;
    if (tokens == 256 && args.is_e4m3) continue;
    for (const int splits : {1, 2, 3, 4}) {
      if (args.rows <= 1024 || splits == 1) plans.push_back({tokens, splits});
    }
  }
  return plans;
}

std::string plan_name(const Sm90Plan& plan) {
  return "tokens " + std::to_string(plan.tile_tokens) + " splits " +
         std::to_string(plan.num_splits);
}

void check_plans(CudaResources& gpu, const GemmCase& gemm, const Buffers& buffers, int32_t rows) {
  GemmArgs args = gemm.args(buffers.out.get(), true, false);
  args.x_scale -= 1;  // cuBLASLt wants scales 16-byte aligned (else cublasStatus_t 15)
  args.x_scale_stride = 1;
  args.out_stride = args.n;
  args.rows = rows;
  const auto bytes = static_cast<size_t>(rows) * static_cast<size_t>(args.n) * sizeof(BFloat16);
  std::vector<uint8_t> want;
  for (const Sm90Plan& plan : plans_of(args)) {
    const Launch launch = [&](const GemmArgs& a) { run_gemm_sm90(a, plan, gpu.stream); };
    COMET_CUDA(cudaMemset(buffers.out.get(), 0xFF, bytes));
    COMET_CUDA(cudaDeviceSynchronize());
    print_time(plan_name(plan), args, time_us(launch, args, buffers, gpu.stream));
    if (args.is_e4m3) continue;
    std::vector<uint8_t> got(bytes);
    COMET_CUDA(cudaMemcpy(got.data(), buffers.out.get(), bytes, cudaMemcpyDeviceToHost));
    if (want.empty()) want = got;
    EXPECT_EQ(std::memcmp(want.data(), got.data(), bytes), 0) << plan_name(plan);
  }
  if (rows <= 64) {
    const Launch mma = [&](const GemmArgs& a) { launch_gemm_mma(a, gpu.stream); };
    print_time("mma", args, time_us(mma, args, buffers, gpu.stream));
  }
}

/// BF16 over the same bytes: half as many channels of input.
void print_dense(CudaResources& gpu, const GemmCase& gemm, const Buffers& buffers, int32_t rows) {
  GemmArgs args = gemm.args(buffers.out.get(), true, false);
  args.rows = rows;
  args.k /= 2;
  const auto lt = cublaslt_of(gpu);
  ASSERT_TRUE(lt.ok()) << lt.error().message;
  const MatmulDesc desc{.rows = rows, .n = args.n, .k = args.k};
  ASSERT_TRUE(plan_matmul(**lt, desc).ok());
  const Launch by_library = [&](const GemmArgs& a) {
    run_matmul(**lt, desc, {.x = a.x, .w = a.w, .out = a.out}, gpu.stream);
  };
  print_time("BF16 cublaslt", args, time_us(by_library, args, buffers, gpu.stream), 2);
  if (rows > dense::kMaxGemvRows) return;
  const Launch gemv = [&](const GemmArgs& a) {
    dense::GemvArgs own;
    own.x = a.x;
    own.w = a.w;
    own.out = a.out;
    own.x_stride = own.k = a.k;
    own.out_stride = own.n = a.n;
    own.rows = a.rows;
    own.is_bf16_out = true;
    own.may_start_early = true;
    dense::launch_gemv(own, gpu.stream);
  };
  print_time("BF16 gemv", args, time_us(gemv, args, buffers, gpu.stream), 2);
}

void check_type(CudaResources& gpu, bool is_e4m3) {
  constexpr int32_t kShapes[][2] = {{6144, 4096}, {4096, 4096}, {28672, 4096}, {4096, 14336}};
  constexpr int32_t kMaxRows = 4096;
  for (const auto& [n, k] : kShapes) {
    const GemmCase gemm({kMaxRows, n, k, is_e4m3});
    const Buffers buffers(gemm, kMaxRows);
    for (const int32_t rows : {1, 16, 64, 128, 256, 512, 1024, 4096}) {
      check_plans(gpu, gemm, buffers, rows);
      if (!is_e4m3 && rows <= 64) print_dense(gpu, gemm, buffers, rows);
    }
  }
}

TEST(W8A8PlansCuda, SameBitsWhateverThePlanInt8) {
  const auto gpu = testing::open_gpu();
  if (!gpu || gpu->sm != 90) GTEST_SKIP() << "no GPU of sm_90";
  check_type(*gpu, false);
}

TEST(W8A8PlansCuda, EveryPlanOfE4M3) {
  const auto gpu = testing::open_gpu();
  if (!gpu || gpu->sm != 90) GTEST_SKIP() << "no GPU of sm_90";
  check_type(*gpu, true);
}

}  // namespace
}  // namespace comet::formats::w8a8
