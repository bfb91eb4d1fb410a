// w4a16's kernels on every linear of LLaMA-3 8B and 70B and on ragged ones, all outputs: against
// sums in FP64 by a plain kernel, which is itself held to the host's on a sample.
#include <gtest/gtest.h>

#include "comet/formats/w4a16/cuda/gemm_case.h"
#include "support/reference_products.h"

namespace comet::formats::w4a16_cuda {
namespace {

constexpr int32_t kRowCounts[] = {1, 3, 16, 64, 100, 256, 1024};
constexpr int32_t kMaxRows = 1024;
constexpr int64_t kGuard = 3;        // columns behind n that nobody may write
constexpr double kTolerance = 2e-6;  // of Σ |x·w| + 1

/// A weight and kMaxRows inputs on the GPU, with the sums of their products.
struct Expected {
  explicit Expected(const WeightCase& c, cudaStream_t stream)
      : host(c),
        input(kMaxRows, c.k),
        weight(host, stream),
        x(input.bits),
        sums(static_cast<size_t>(kMaxRows) * static_cast<size_t>(c.n)),
        sizes(static_cast<size_t>(kMaxRows) * static_cast<size_t>(c.n)) {}

  /// The sums of what `kernel` multiplies, and some of them against the host's.
  void sum_up(Kernel kernel, cudaStream_t stream) const {
    const WeightCase& c = host.shape;
    const DeviceArray<uint32_t> words(host.words);
    const DeviceArray<float> scales(host.scales);
    const DeviceArray<uint8_t> zeros(host.zeros);
    const testing::PackedWeight packed{
        words.get(),  scales.get(), c.zeros ? zeros.get() : nullptr,
        c.k_padded(), c.group,      kernel == Kernel::kWgmma && host.is_scaled()};
    testing::launch_packed_sums(packed, x.get(), kMaxRows, c.n, c.k, {sums.get(), sizes.get()},
                                stream);
    COMET_CUDA(cudaStreamSynchronize(stream));
    std::vector<double> values(static_cast<size_t>(c.k));
    for (int32_t row = 0; row < c.n; row += c.n / 23 + 1) {
      for (int32_t i = 0; i < c.k; ++i) {
        values[static_cast<size_t>(i)] = host.multiplied(kernel, row, i);
      }
      for (int32_t token = row % 89; token < kMaxRows; token += 101) {
        double got = 0;
        COMET_CUDA(cudaMemcpy(&got, sums.get() + int64_t{token} * c.n + row, sizeof(got),
                              cudaMemcpyDeviceToHost));
        const Want want = want_of(values, input, token);
        ASSERT_NEAR(got, want.sum, 1e-12 * want.size) << token << ", " << row;
      }
    }
  }

  HostWeight host;
  HostInput input;
  DeviceWeight weight;
  DeviceArray<uint16_t> x;
  DeviceArray<double> sums;
  DeviceArray<float> sizes;
};

GemmArgs args_of(const Expected& expected, int32_t rows, void* out, bool is_bf16) {
  GemmArgs args;
  args.blocks = expected.weight.blocks;
  args.x = expected.x.get();
  args.x_stride = args.k = expected.input.k;
  args.rows = rows;
  args.out = out;
  args.out_stride = args.blocks.n + kGuard;
  args.out_is_bf16 = is_bf16;
  return args;
}

void run(const CudaResources& gpu, Kernel kernel, const GemmArgs& args) {
  if (kernel == Kernel::kMma) {
    const GemmPlan plan = plan_gemm_mma(args, gpu.num_sms);
    const DeviceArray<float> workspace(static_cast<size_t>(workspace_floats(args, plan)));
    launch_gemm_mma(args, plan, workspace.get(), gpu.stream);
    COMET_CUDA(cudaStreamSynchronize(gpu.stream));
    return;
  }
  const GemmPlan plan = plan_gemm_wgmma(args, gpu.num_sms);
  const DeviceArray<float> workspace(static_cast<size_t>(wgmma_workspace_floats(plan)));
  GemmArgs with_workspace = args;
  with_workspace.workspace = workspace.get();
  with_workspace.arrivals = gpu.arrivals;
  const CUtensorMap map =
      make_tensor_map({args.x, DType::kBF16, args.rows, args.k, args.x_stride, plan.tile_tokens});
  launch_gemm_wgmma(with_workspace, plan, &map, gpu.stream);
  COMET_CUDA(cudaStreamSynchronize(gpu.stream));
}

/// Outputs of the first rows, and that a second run gives the same bits.
void check_rows(const CudaResources& gpu, const Expected& expected, Kernel kernel, int32_t rows,
                bool is_bf16) {
  const int64_t count = rows * (int64_t{expected.host.shape.n} + kGuard);
  const DeviceArray<uint8_t> out(static_cast<size_t>(count * (is_bf16 ? 2 : 4)));
  const DeviceArray<uint64_t> counts(2);
  const GemmArgs args = args_of(expected, rows, out.get(), is_bf16);
  run(gpu, kernel, args);
  testing::FloatWant want;
  want.sums = {expected.sums.get(), expected.sizes.get()};
  want.factor = kTolerance;
  testing::launch_count_far({out.get(), is_bf16, args.out_stride, rows, args.blocks.n}, want,
                            counts.get(), gpu.stream);
  const std::vector<uint64_t> far = counts.to_host();
  ASSERT_EQ(far[0], 0U) << "first at row " << far[1] / static_cast<uint64_t>(args.out_stride)
                        << ", column " << far[1] % static_cast<uint64_t>(args.out_stride);
  if (rows > 64) return;
  const DeviceArray<uint8_t> again(out.bytes());
  run(gpu, kernel, args_of(expected, rows, again.get(), is_bf16));
  EXPECT_TRUE(out.to_host() == again.to_host()) << "a second run gives other bits";
}

void check_shape(const CudaResources& gpu, const WeightCase& c) {
  const Expected expected(c, gpu.stream);
  for (const Kernel kernel : kernels_of(gpu)) {
    expected.sum_up(kernel, gpu.stream);
    for (const int32_t rows : kRowCounts) {
      for (const bool is_bf16 : {false, true}) {
        SCOPED_TRACE(c.text() + " " + kernel_name(kernel) + " rows=" + std::to_string(rows) +
                     (is_bf16 ? " BF16" : " F32"));
        check_rows(gpu, expected, kernel, rows, is_bf16);
        if (::testing::Test::HasFatalFailure()) return;
      }
    }
  }
}

TEST(W4a16LlamaCuda, AllOutputsOfEveryLinear) {
  const auto gpu = testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  for (const WeightCase& c : std::vector<WeightCase>{{6144, 4096, 128, ScaleType::kBF16, false},
                                                     {4096, 4096, 128, ScaleType::kF16, true},
                                                     {28672, 4096, 128, ScaleType::kF16, true},
                                                     {4096, 14336, 128, ScaleType::kBF16, false},
                                                     {10240, 8192, 128, ScaleType::kBF16, false},
                                                     {8192, 8192, 64, ScaleType::kBF16, true},
                                                     {57344, 8192, 128, ScaleType::kBF16, false},
                                                     {8192, 28672, 128, ScaleType::kBF16, false},
                                                     {5, 32, 32, ScaleType::kBF16, false},
                                                     {1000, 136, 128, ScaleType::kBF16, true},
                                                     {777, 3000, 32, ScaleType::kF32, true}}) {
    check_shape(*gpu, c);
    if (HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace comet::formats::w4a16_cuda
