// w8a8-fp8's products of every linear of LLaMA-3 8B and 70B, all outputs, within 4e-3 of the
// largest: against sums in FP64 by a plain kernel, which is itself held to the host's on a sample.
// (s8, bit for bit: W8A8GemmCuda.LlamaShapesBitForBit.)
#include <gtest/gtest.h>

#include <functional>

#include "comet/device/cuda/cublaslt.h"
#include "comet/formats/w8a8/cuda/gemm_case.h"
#include "comet/formats/w8a8/cuda/gemm_sm90.h"
#include "support/reference_products.h"

namespace comet::formats::w8a8 {
namespace {

using testing::DeviceArray;

constexpr int32_t kRowCounts[] = {1, 3, 16, 64, 100, 256, 1024};
constexpr int32_t kMaxRows = 1024;
constexpr double kTolerance = 4e-3;  // of the largest output

struct Kernel {
  std::string name;
  bool is_bf16_out = false;
  std::function<void(const GemmArgs& args)> run;
};

void run_cublaslt(CudaResources& gpu, const GemmArgs& args) {
  const auto lt = cublaslt_of(gpu);
  COMET_CHECK(lt.ok(), "{}", lt.error().message);
  MatmulDesc desc;
  desc.in = DType::kF8E4M3;
  desc.out = DType::kBF16;
  desc.rows = args.rows;
  desc.n = args.n;
  desc.k = args.k;
  desc.x_stride = args.x_stride;
  desc.w_stride = args.w_stride;
  desc.out_stride = args.out_stride;
  desc.scale = MatmulScale::kOuter;
  run_matmul(
      **lt, desc,
      {.x = args.x, .w = args.w, .out = args.out, .x_scale = args.x_scale, .w_scale = args.w_scale},
      gpu.stream);
}

std::vector<Kernel> kernels_of(CudaResources& gpu) {
  std::vector<Kernel> kernels{
      {"mma", false, [&gpu](const GemmArgs& args) { launch_gemm_mma(args, gpu.stream); }}};
  if (gpu.sm != 90) return kernels;
  const auto run_sm90 = [&gpu](const GemmArgs& args) {
    run_gemm_sm90(args, plan_gemm_sm90(args, gpu.num_sms), gpu.stream);
  };
  kernels.push_back({"sm90", false, run_sm90});
  kernels.push_back({"sm90", true, run_sm90});
  if (cublaslt_is_found()) {
    kernels.push_back(
        {"cuBLASLt", true, [&gpu](const GemmArgs& args) { run_cublaslt(gpu, args); }});
  }
  return kernels;
}

/// Sums of a case on the GPU.
struct Expected {
  Expected(const GemmCase& gemm, cudaStream_t stream)
      : sums(static_cast<size_t>(kMaxRows) * static_cast<size_t>(gemm.shape().n)),
        sizes(sums.bytes() / sizeof(double)) {
    const GemmArgs args = gemm.args(nullptr, false, false);
    testing::launch_e4m3_sums({static_cast<const uint8_t*>(args.x),
                               static_cast<const uint8_t*>(args.w), args.x_stride, args.w_stride},
                              kMaxRows, args.n, args.k, {sums.get(), sizes.get()}, stream);
    COMET_CUDA(cudaStreamSynchronize(stream));
  }

  void check_sample(const GemmCase& gemm) const {
    const int32_t n = gemm.shape().n;
    for (int32_t i = 0; i < 200; ++i) {
      const int64_t row = i * 397 % kMaxRows;
      const int64_t column = i == 0 ? n - 1 : i * int64_t{7919} % n;
      double got = 0;
      COMET_CUDA(
          cudaMemcpy(&got, sums.get() + row * n + column, sizeof(got), cudaMemcpyDeviceToHost));
      ASSERT_EQ(got, gemm.sum(row, column)) << row << ", " << column;  // both are exact
    }
  }

  DeviceArray<double> sums;
  DeviceArray<float> sizes;
};

void check_rows(const CudaResources& gpu, const GemmCase& gemm, const Expected& expected,
                const Kernel& kernel, int32_t rows) {
  const int64_t n = gemm.shape().n;
  const auto bytes = static_cast<size_t>(rows * n * (kernel.is_bf16_out ? 2 : 4));
  const DeviceArray<uint8_t> out(bytes);
  const DeviceArray<uint64_t> counts(2);
  const DeviceArray<float> largest(1);
  GemmArgs args = gemm.args(out.get(), kernel.is_bf16_out, false);
  args.x_scale -= 1;  // cuBLASLt wants scales 16-byte aligned, one after another
  args.x_scale_stride = 1;
  args.out_stride = n;  // and rows of outputs likewise
  args.rows = rows;
  kernel.run(args);
  testing::FloatWant want;
  want.sums = {expected.sums.get(), expected.sizes.get()};
  want.row_scale = args.x_scale;
  want.column_scale = args.w_scale;
  testing::launch_largest(want, rows, args.n, largest.get(), gpu.stream);
  want.absolute = kTolerance * double{largest.to_host()[0]};
  testing::launch_count_far({out.get(), kernel.is_bf16_out, n, rows, args.n}, want, counts.get(),
                            gpu.stream);
  const std::vector<uint64_t> far = counts.to_host();
  EXPECT_EQ(far[0], 0U) << kernel.name << (kernel.is_bf16_out ? " to BF16, " : " to F32, ") << rows
                        << " x " << n << " x " << args.k << ": first at row "
                        << far[1] / static_cast<uint64_t>(n) << ", column "
                        << far[1] % static_cast<uint64_t>(n);
}

TEST(W8A8LlamaCuda, E4M3AllOutputs) {
  const auto gpu = testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  constexpr int32_t kShapes[][2] = {{6144, 4096},  {4096, 4096}, {28672, 4096}, {4096, 14336},
                                    {10240, 8192}, {8192, 8192}, {57344, 8192}, {8192, 28672}};
  for (const auto& [n, k] : kShapes) {
    const GemmCase gemm({kMaxRows, n, k, true});
    const Expected expected(gemm, gpu->stream);
    expected.check_sample(gemm);
    for (const Kernel& kernel : kernels_of(*gpu)) {
      for (const int32_t rows : kRowCounts) check_rows(*gpu, gemm, expected, kernel, rows);
    }
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace comet::formats::w8a8
