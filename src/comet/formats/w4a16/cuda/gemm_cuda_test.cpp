// w4a16's CUDA kernels against float64: the blocks' layout, every group size and type of scale,
// zero points, every tile and split, ragged rows and channels; outputs are poisoned.
#include "comet/formats/w4a16/cuda/gemm.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>

#include "comet/device/cuda/graph.h"
#include "comet/formats/w4a16/cuda/gemm_case.h"

namespace comet::formats::w4a16_cuda {
namespace {

/// Checks rows 0, step, 2·step, … of W for the tokens likewise; that all outputs are numbers, and
/// extra columns are not touched.
void expect_product(const HostWeight& weight, const HostInput& input, const std::vector<float>& out,
                    const Call& call, int32_t row_step, int32_t token_step) {
  const int64_t stride = weight.shape.n + call.extra_columns;
  const std::vector<float> bias = bias_of(weight.shape.n);
  for (int64_t i = 0; i < static_cast<int64_t>(out.size()); ++i) {
    const bool is_output = i % stride < weight.shape.n;
    ASSERT_EQ(std::isnan(out[static_cast<size_t>(i)]), !is_output)
        << "token " << i / stride << " row " << i % stride;
  }
  std::vector<double> values(static_cast<size_t>(weight.shape.k));
  for (int32_t row = 0; row < weight.shape.n; row += row_step) {
    for (int32_t i = 0; i < weight.shape.k; ++i) {
      values[static_cast<size_t>(i)] = weight.multiplied(call.kernel, row, i);
    }
    for (int32_t token = row / row_step % token_step; token < input.rows; token += token_step) {
      Want want = want_of(values, input, token);
      if (call.bias) want.sum += double{bias[static_cast<size_t>(row)]};
      const double rounding = call.bf16 ? std::abs(want.sum) * 0x1p-8 : 0.0;
      const float got = out[static_cast<size_t>(token * stride + row)];
      ASSERT_NEAR(got, want.sum, 2e-6 * (want.size + 1) + rounding)
          << "token " << token << " row " << row;
    }
  }
}

/// Every nibble, scale and zero point of the blocks, from the picture in gemm.h.
TEST(W4a16Cuda, BlocksAreAsTheHeaderSays) {
  const auto gpu = testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  for (const WeightCase& c : std::vector<WeightCase>{{130, 250, 128, ScaleType::kBF16, false},
                                                     {257, 384, 128, ScaleType::kF16, true},
                                                     {40, 128, 32, ScaleType::kBF16, true},
                                                     {260, 256, 64, ScaleType::kF32, false}}) {
    SCOPED_TRACE(c.text());
    const HostWeight host(c);
    const DeviceWeight device(host, gpu->stream);
    const std::vector<uint8_t> data = device.data.to_host();
    const Blocks& blocks = device.blocks;
    const int64_t n_padded = (c.n + 255) / 256 * 256;
    ASSERT_EQ(static_cast<int64_t>(data.size()),
              n_padded / 128 * blocks.num_k_blocks * blocks.block_bytes());
    for (int64_t row = 0; row < n_padded; ++row) {
      for (int64_t channel = 0; channel < c.k_padded(); ++channel) {
        const int64_t at = (row / 128 * blocks.num_k_blocks + channel / 128) * blocks.block_bytes();
        const int64_t lane = row % 8 * 4 + channel % 8 / 2;
        const int64_t word = at + channel % 128 / 64 * 4096 + row % 128 / 16 * 512 + lane * 16 +
                             channel % 64 / 16 * 4;
        const int64_t nibble = row % 16 / 8 + channel % 16 / 8 * 2 + channel % 2 * 4;
        const int got = data[static_cast<size_t>(word + nibble / 2)] >> (nibble % 2 * 4) & 15;
        ASSERT_EQ(got, row < c.n ? host.code(row, channel) : kPlainZero) << row << " " << channel;
        const int64_t in_group = channel % 128 / (128 / blocks.num_groups) * 128 + row % 128;
        const uint8_t* scale = data.data() + at + kWordBytes + in_group * blocks.scale_bytes();
        uint32_t bits = 0;
        std::memcpy(&bits, scale, static_cast<size_t>(blocks.scale_bytes()));
        const float value = blocks.num_groups == 4 ? std::bit_cast<float>(bits)
                            : blocks.is_f16        ? to_float(Float16{static_cast<uint16_t>(bits)})
                                            : to_float(BFloat16{static_cast<uint16_t>(bits)});
        ASSERT_EQ(value, row < c.n ? host.scales[host.group_at(row, channel)] : 0.0F);
        if (!c.zeros) continue;
        const int64_t zeros = at + kWordBytes + 128 * blocks.num_groups * blocks.scale_bytes();
        ASSERT_EQ(data[static_cast<size_t>(zeros + in_group)],
                  row < c.n ? host.zeros[host.group_at(row, channel)] : kPlainZero);
      }
    }
  }
}

TEST(W4a16Cuda, EveryTileAndSplitOfEveryWeight) {
  const auto gpu = testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  int call_idx = 0;
  for (const WeightCase& c : std::vector<WeightCase>{{300, 1056, 128, ScaleType::kBF16, false},
                                                     {512, 1152, 128, ScaleType::kF16, true},
                                                     {301, 1024, 64, ScaleType::kBF16, true},
                                                     {258, 1032, 32, ScaleType::kF16, false},
                                                     {384, 1024, 128, ScaleType::kF32, true}}) {
    const HostWeight host(c);
    const DeviceWeight weight(host, gpu->stream);
    const HostInput input(21, c.k);
    for (const Kernel kernel : kernels_of(*gpu)) {
      for (GemmPlan plan : tiles_of(kernel, weight.blocks)) {
        for (const int32_t splits : {1, 2, 4, 8}) {
          ++call_idx;
          plan.num_splits = splits;
          const Call call{kernel, plan, call_idx % 2 == 0, call_idx % 3 == 0, call_idx % 4};
          SCOPED_TRACE(c.text() + " " + kernel_name(kernel) + " " + plan_text(plan));
          const std::vector<float> out = product(*gpu, weight, input, call);
          expect_product(host, input, out, call, 1, 1);
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

/// Clusters of other sizes than powers of two.
TEST(W4a16Cuda, SplitsOfAnyNumber) {
  const auto gpu = testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  const WeightCase c{600, 2048, 128, ScaleType::kBF16, false};
  const HostWeight host(c);
  const DeviceWeight weight(host, gpu->stream);
  const HostInput input(13, c.k);
  for (const Kernel kernel : kernels_of(*gpu)) {
    for (const int32_t splits : {3, 5, 6, 7}) {
      SCOPED_TRACE(std::to_string(splits) + (kernel == Kernel::kMma ? " mma" : " wgmma"));
      const Call call{kernel, {16, splits}, false, false, 0};
      expect_product(host, input, product(*gpu, weight, input, call), call, 1, 1);
      if (HasFatalFailure()) return;
    }
  }
}

/// Tall tiles among any number of CTAs: parts of two, three and many, whole tiles between, ends of
/// rows and tokens; a launch after the other counts its parts anew.
TEST(W4a16Cuda, TallTilesAmongAnyNumberOfCtas) {
  const auto gpu = testing::open_gpu();
  if (!gpu || gpu->sm != 90) GTEST_SKIP() << "no GPU of sm_90";
  int call_idx = 0;
  for (const int32_t n : {1024, 1001}) {
    const WeightCase c{n, 2048, 128, ScaleType::kBF16, false};
    const HostWeight host(c);
    const DeviceWeight weight(host, gpu->stream);
    for (const int32_t rows : {8, 13, 30, 64, 70}) {
      const HostInput input(rows, c.k);
      for (const int32_t ctas : {1, 2, 3, 5, 7, 11, 16, 29, 61, 64}) {
        for (int repeat = 0; repeat < 2; ++repeat) {
          ++call_idx;
          const int32_t tokens = rows <= 8 ? 8 : rows <= 16 ? 16 : rows <= 32 ? 32 : 64;
          const Call call{Kernel::kWgmma,
                          {tokens, ctas, TileShape::kTall},
                          call_idx % 4 < 2,
                          call_idx % 3 == 0,
                          call_idx % 5};
          SCOPED_TRACE(c.text() + " rows=" + std::to_string(rows) + " " + plan_text(call.plan));
          expect_product(host, input, product(*gpu, weight, input, call), call, 7, 1);
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

/// A graph of products that feed one another, each started before the one before it has ended,
/// gives the bits of products one at a time.
void check_graph(const CudaResources& gpu, int32_t size, int num_links, int num_repeats) {
  const HostWeight host({size, size, 128, ScaleType::kBF16, false});
  const DeviceWeight weight(host, gpu.stream);
  const HostInput input(24, size);
  for (const Kernel kernel : kernels_of(gpu)) {
    const DeviceArray<uint16_t> a(input.bits);
    const DeviceArray<uint16_t> b(input.bits.size());
    constexpr GemmPlan kTall{32, 2, TileShape::kTall};
    const DeviceArray<float> workspace(static_cast<size_t>(wgmma_workspace_floats(kTall)));
    const auto step = [&](int link) {
      const DeviceArray<uint16_t>& x = link % 2 == 0 ? a : b;
      GemmArgs args;
      args.blocks = weight.blocks;
      args.x = x.get();
      args.x_stride = args.out_stride = args.k = size;
      args.rows = input.rows;
      args.out = link % 2 == 0 ? b.get() : a.get();
      if (kernel == Kernel::kMma) {
        launch_gemm_mma(args, {64, 1}, nullptr, gpu.stream);
        return;
      }
      const CUtensorMap map = make_tensor_map({x.get(), DType::kBF16, args.rows, size, size, 32});
      args.workspace = workspace.get();
      args.arrivals = gpu.arrivals;
      const GemmPlan plans[] = {{32, 1}, {32, 4}, kTall};
      launch_gemm_wgmma(args, plans[link % 3], &map, gpu.stream);
    };
    for (int link = 0; link < num_links; ++link) {
      step(link);
      COMET_CUDA(cudaStreamSynchronize(gpu.stream));
    }
    const std::vector<uint16_t> want = a.to_host();
    for (int repeat = 0; repeat < num_repeats; ++repeat) {
      COMET_CUDA(cudaMemcpy(a.get(), input.bits.data(), a.bytes(), cudaMemcpyHostToDevice));
      const CudaGraph graph = CudaGraph::capture(gpu.stream, [&] {
        for (int link = 0; link < num_links; ++link) step(link);
      });
      graph.launch(gpu.stream);
      ASSERT_TRUE(a.to_host() == want) << kernel_name(kernel);
    }
  }
}

TEST(W4a16Cuda, DependentProductsInAGraph) {
  const auto gpu = testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  check_graph(*gpu, 2048, 24, 10);
}

/// Every kernel with fewest CTAs, for compute-sanitizer: stages are filled again (at most 20 of 128
/// channels), clusters add their sums, a graph overlaps its kernels.
TEST(W4a16Cuda, SmallProductsOfEveryKernel) {
  const auto gpu = testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  for (const WeightCase& c : std::vector<WeightCase>{{130, 2816, 128, ScaleType::kBF16, true},
                                                     {130, 2816, 32, ScaleType::kF16, false}}) {
    const HostWeight host(c);
    const DeviceWeight weight(host, gpu->stream);
    const HostInput input(9, c.k);
    for (const Kernel kernel : kernels_of(*gpu)) {
      for (GemmPlan plan : tiles_of(kernel, weight.blocks)) {
        for (const int32_t splits : {1, 2}) {
          plan.num_splits = splits;
          const Call call{kernel, plan, splits == 2, splits == 1, 1};
          SCOPED_TRACE(c.text() + " " + kernel_name(kernel) + " " + plan_text(plan));
          expect_product(host, input, product(*gpu, weight, input, call), call, 1, 1);
          if (HasFatalFailure()) return;
        }
      }
    }
  }
  check_graph(*gpu, 256, 4, 1);
}

/// Codes at their ends, scales far apart, inputs of ±2^20.
void check_extremes(const CudaResources& gpu, bool has_zeros) {
  HostWeight host({256, 512, 128, ScaleType::kBF16, has_zeros});
  for (size_t i = 0; i < host.words.size(); ++i) host.words[i] = i % 2 == 0 ? 0xFFFFFFFFU : 0U;
  for (size_t i = 0; i < host.scales.size(); ++i) {
    if (has_zeros) host.zeros[i] = i % 3 == 0 ? 0 : 15;
    host.scales[i] = std::ldexp(1.0F, static_cast<int>(i % 4) * 20 - 40);
    host.bits16[i] = to_bfloat16(host.scales[i]).bits;
  }
  const DeviceWeight weight(host, gpu.stream);
  HostInput input(9, 512);
  for (size_t i = 0; i < input.bits.size(); ++i) {
    input.values[i] = i % 5 == 0 ? -0x1p20F : i % 5 == 1 ? 0x1p-20F : 1.0F;
    input.bits[i] = to_bfloat16(input.values[i]).bits;
  }
  for (const Kernel kernel : kernels_of(gpu)) {
    const Call call{kernel, {16, 2}, false, false, 0};
    expect_product(host, input, product(gpu, weight, input, call), call, 1, 1);
  }
}

TEST(W4a16Cuda, Extremes) {
  const auto gpu = testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  for (const bool has_zeros : {false, true}) check_extremes(*gpu, has_zeros);
}

TEST(W4a16Cuda, GatherBringsChannelsIntoOrderAndPads) {
  const auto gpu = testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  constexpr int32_t kRows = 5;
  constexpr int32_t kChannels = 77;
  constexpr int64_t kStride = 128;
  const HostInput input(kRows, kChannels);
  std::vector<int32_t> order;
  for (int32_t i = 0; i < kChannels; ++i) order.push_back(i * 10 % kChannels);
  const DeviceArray<uint16_t> x(input.bits);
  const DeviceArray<int32_t> device_order(order);
  for (const bool ordered : {false, true}) {
    const DeviceArray<uint16_t> out(kRows * kStride);
    launch_gather({x.get(), kChannels, ordered ? device_order.get() : nullptr, kChannels, kRows,
                   out.get(), kStride},
                  gpu->stream);
    const std::vector<uint16_t> got = out.to_host();
    for (int64_t row = 0; row < kRows; ++row) {
      for (int64_t i = 0; i < kStride; ++i) {
        const int64_t channel = ordered && i < kChannels ? order[static_cast<size_t>(i)] : i;
        const uint16_t want =
            i < kChannels ? input.bits[static_cast<size_t>(row * kChannels + channel)] : 0;
        ASSERT_EQ(got[static_cast<size_t>(row * kStride + i)], want) << row << " " << i;
      }
    }
  }
}

}  // namespace
}  // namespace comet::formats::w4a16_cuda
