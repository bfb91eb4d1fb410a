// w4a16's CUDA kernels against float64: the blocks' layout, every group size and type of scale,
// zero points, every tile and split, ragged rows and channels, LLaMA shapes; outputs are poisoned.
#include "comet/formats/w4a16/cuda/gemm.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>

#include "comet/base/rng.h"
#include "comet/device/cuda/graph.h"
#include "comet/device/cuda/tensor_map.h"
#include "comet/tensor/dtype.h"
#include "support/gpu.h"

namespace comet::formats::w4a16_cuda {
namespace {

using ::comet::testing::DeviceArray;

struct WeightCase {
  int32_t n = 0;
  int32_t k = 0;  // of the inputs; the weight's is padded to 128
  int32_t group = 128;
  ScaleType type = ScaleType::kBF16;
  bool zeros = false;

  [[nodiscard]] int32_t k_padded() const { return (k + 127) / 128 * 128; }
  [[nodiscard]] std::string text() const {
    return "n=" + std::to_string(n) + " k=" + std::to_string(k) +
           " group=" + std::to_string(group) + " type=" + std::to_string(static_cast<int>(type)) +
           (zeros ? " zeros" : "");
  }
};

/// A random weight, as compressed-tensors lays it and as values.
struct HostWeight {
  explicit HostWeight(const WeightCase& c) : shape(c) {
    Rng rng(17, static_cast<uint64_t>(c.n * 7 + c.k + c.group));
    const auto rows = static_cast<size_t>(c.n);
    const auto width = static_cast<size_t>(c.k_padded());
    const size_t groups = width / static_cast<size_t>(c.group);
    words.resize(rows * width / 8);
    for (uint32_t& word : words) word = static_cast<uint32_t>(rng.next_bits());
    zeros.resize(rows * groups, kPlainZero);
    scales.resize(rows * groups);
    for (size_t i = 0; i < scales.size(); ++i) {
      if (c.zeros) zeros[i] = static_cast<uint8_t>(rng.next_below(16));
      scales[i] = 0.001F + rng.next_uniform() * 0.02F;
      if (c.type == ScaleType::kBF16) {
        bits16.push_back(to_bfloat16(scales[i]).bits);
        scales[i] = to_float(to_bfloat16(scales[i]));
      } else if (c.type == ScaleType::kF16) {
        bits16.push_back(to_float16(scales[i]).bits);
        scales[i] = to_float(to_float16(scales[i]));
      }
    }
  }

  [[nodiscard]] int code(int64_t row, int64_t channel) const {
    const int64_t i = row * shape.k_padded() + channel;
    return static_cast<int>(words[static_cast<size_t>(i / 8)] >> (4 * (i % 8)) & 15U);
  }
  [[nodiscard]] size_t group_at(int64_t row, int64_t channel) const {
    return static_cast<size_t>(row * (shape.k_padded() / shape.group) + channel / shape.group);
  }
  [[nodiscard]] double value(int64_t row, int64_t channel) const {
    const size_t group = group_at(row, channel);
    return (code(row, channel) - zeros[group]) * double{scales[group]};
  }

  WeightCase shape;
  std::vector<uint32_t> words;
  std::vector<float> scales;
  std::vector<uint16_t> bits16;
  std::vector<uint8_t> zeros;
};

/// The same weight in blocks on the GPU.
struct DeviceWeight {
  DeviceWeight(const HostWeight& host, cudaStream_t stream)
      : blocks(blocks_of(rows_of(host), host.shape.n, host.shape.k_padded())),
        data(static_cast<size_t>(blocks.num_bytes())) {
    const DeviceArray<uint32_t> words(host.words);
    const DeviceArray<uint16_t> bits16(host.bits16);
    const DeviceArray<float> floats(host.scales);
    const DeviceArray<uint8_t> zeros(host.zeros);
    PackedRows rows = rows_of(host);
    rows.words = words.get();
    rows.scales = rows.scale_type == ScaleType::kF32 ? static_cast<const void*>(floats.get())
                                                     : static_cast<const void*>(bits16.get());
    if (rows.zeros != nullptr) rows.zeros = zeros.get();
    blocks.data = data.get();
    launch_repack(rows, blocks, stream);
    COMET_CUDA(cudaStreamSynchronize(stream));
  }
  static PackedRows rows_of(const HostWeight& host) {
    PackedRows rows;
    rows.scale_type = host.shape.type;
    rows.group = host.shape.group;
    rows.zeros = host.shape.zeros ? host.zeros.data() : nullptr;
    return rows;
  }
  Blocks blocks;
  DeviceArray<uint8_t> data;
};

struct HostInput {
  HostInput(int32_t num_rows, int32_t channels) : rows(num_rows), k(channels) {
    Rng rng(3, static_cast<uint64_t>(num_rows + channels));
    for (int64_t i = 0; i < int64_t{rows} * k; ++i) {
      const BFloat16 x = to_bfloat16(rng.next_normal());
      bits.push_back(x.bits);
      values.push_back(to_float(x));
    }
  }
  int32_t rows;
  int32_t k;
  std::vector<uint16_t> bits;
  std::vector<float> values;
};

enum class Kernel { kMma, kWgmma };

struct Call {
  Kernel kernel = Kernel::kMma;
  GemmPlan plan;
  bool bf16 = false;
  bool bias = false;
  int32_t extra_columns = 0;  // of an output row, to stay untouched
};

std::vector<float> bias_of(int32_t n) {
  Rng rng(5);
  std::vector<float> bias;
  for (int32_t i = 0; i < n; ++i) bias.push_back(rng.next_normal());
  return bias;
}

/// The output as floats, [rows, n + extra_columns], poisoned before.
std::vector<float> product(const CudaResources& gpu, const DeviceWeight& weight,
                           const HostInput& input, const Call& call) {
  const DeviceArray<uint16_t> x(input.bits);
  const DeviceArray<float> bias(bias_of(weight.blocks.n));
  const int64_t stride = weight.blocks.n + call.extra_columns;
  const auto count = static_cast<size_t>(input.rows * stride);
  const DeviceArray<uint16_t> out16(call.bf16 ? count : 0);
  const DeviceArray<float> out32(call.bf16 ? 0 : count);
  GemmArgs args;
  args.blocks = weight.blocks;
  args.x = x.get();
  args.x_stride = input.k;
  args.k = input.k;
  args.rows = input.rows;
  args.bias = call.bias ? bias.get() : nullptr;
  args.out = call.bf16 ? static_cast<void*>(out16.get()) : static_cast<void*>(out32.get());
  args.out_stride = stride;
  args.out_is_bf16 = call.bf16;
  if (call.kernel == Kernel::kMma) {
    const DeviceArray<float> workspace(static_cast<size_t>(workspace_floats(args, call.plan)));
    launch_gemm_mma(args, call.plan, workspace.get(), gpu.stream);
    COMET_CUDA(cudaStreamSynchronize(gpu.stream));
  } else {
    const CUtensorMap map = make_tensor_map(
        {x.get(), DType::kBF16, input.rows, input.k, input.k, call.plan.tile_tokens});
    launch_gemm_wgmma(args, call.plan, &map, gpu.stream);
    COMET_CUDA(cudaStreamSynchronize(gpu.stream));
  }
  if (!call.bf16) return out32.to_host();
  std::vector<float> out;
  for (const uint16_t bits : out16.to_host()) out.push_back(to_float(BFloat16{bits}));
  return out;
}

/// Σ x·w and Σ |x·w| of one output.
struct Want {
  double sum = 0;
  double size = 1e-30;
};

Want want_of(const std::vector<double>& row, const HostInput& input, int64_t token) {
  Want want;
  const float* x = input.values.data() + token * input.k;
  for (size_t i = 0; i < row.size(); ++i) {
    const double term = row[i] * x[i];
    want.sum += term;
    want.size += std::abs(term);
  }
  return want;
}

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
      values[static_cast<size_t>(i)] = weight.value(row, i);
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

std::vector<Kernel> kernels_of(const CudaResources& gpu) {
  if (gpu.sm == 90) return {Kernel::kMma, Kernel::kWgmma};
  return {Kernel::kMma};
}

std::vector<int32_t> tiles_of(Kernel kernel) {
  if (kernel == Kernel::kMma) return {16, 64, 128};
  return {8, 16, 32, 64, 128};
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
      for (const int32_t tile : tiles_of(kernel)) {
        for (const int32_t splits : {1, 2, 4, 8}) {
          ++call_idx;
          const Call call{
              kernel, {tile, splits}, call_idx % 2 == 0, call_idx % 3 == 0, call_idx % 4};
          SCOPED_TRACE(c.text() + (kernel == Kernel::kMma ? " mma" : " wgmma") +
                       " tile=" + std::to_string(tile) + " splits=" + std::to_string(splits));
          const std::vector<float> out = product(*gpu, weight, input, call);
          expect_product(host, input, out, call, 1, 1);
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

TEST(W4a16Cuda, NumbersOfTokensAndLlamaShapes) {
  const auto gpu = testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  for (const WeightCase& c : std::vector<WeightCase>{{6144, 4096, 128, ScaleType::kBF16, false},
                                                     {4096, 14336, 128, ScaleType::kBF16, false},
                                                     {28672, 4096, 128, ScaleType::kF16, true},
                                                     {10240, 8192, 128, ScaleType::kBF16, false},
                                                     {5, 32, 32, ScaleType::kBF16, false},
                                                     {1000, 136, 128, ScaleType::kBF16, true}}) {
    const HostWeight host(c);
    const DeviceWeight weight(host, gpu->stream);
    for (const int32_t rows : {1, 3, 16, 64, 100, 256, 1024}) {
      const HostInput input(rows, c.k);
      GemmArgs args;
      args.blocks = weight.blocks;
      args.rows = rows;
      for (const Kernel kernel : kernels_of(*gpu)) {
        Call call;
        call.kernel = kernel;
        call.plan = kernel == Kernel::kMma ? plan_gemm_mma(args, gpu->num_sms)
                                           : plan_gemm_wgmma(args, gpu->num_sms);
        call.bf16 = rows % 2 == 0;
        SCOPED_TRACE(c.text() + " rows=" + std::to_string(rows) +
                     (kernel == Kernel::kMma ? " mma" : " wgmma") +
                     " splits=" + std::to_string(call.plan.num_splits));
        const std::vector<float> out = product(*gpu, weight, input, call);
        expect_product(host, input, out, call, c.n / 37 + 1, rows / 9 + 1);
        if (HasFatalFailure()) return;
        EXPECT_TRUE(out == product(*gpu, weight, input, call)) << "a second run gives other bits";
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

/// A graph of products that feed one another, each started before the one before it has ended,
/// gives the bits of products one at a time.
TEST(W4a16Cuda, DependentProductsInAGraph) {
  const auto gpu = testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  constexpr int32_t kSize = 2048;
  constexpr int kLinks = 24;
  const HostWeight host({kSize, kSize, 128, ScaleType::kBF16, false});
  const DeviceWeight weight(host, gpu->stream);
  const HostInput input(24, kSize);
  for (const Kernel kernel : kernels_of(*gpu)) {
    const DeviceArray<uint16_t> a(input.bits);
    const DeviceArray<uint16_t> b(input.bits.size());
    const auto step = [&](int link) {
      const DeviceArray<uint16_t>& x = link % 2 == 0 ? a : b;
      GemmArgs args;
      args.blocks = weight.blocks;
      args.x = x.get();
      args.x_stride = args.out_stride = args.k = kSize;
      args.rows = input.rows;
      args.out = link % 2 == 0 ? b.get() : a.get();
      if (kernel == Kernel::kMma) {
        launch_gemm_mma(args, {64, 1}, nullptr, gpu->stream);
        return;
      }
      const CUtensorMap map = make_tensor_map({x.get(), DType::kBF16, args.rows, kSize, kSize, 32});
      launch_gemm_wgmma(args, {32, link % 3 == 0 ? 1 : 4}, &map, gpu->stream);
    };
    for (int link = 0; link < kLinks; ++link) {
      step(link);
      COMET_CUDA(cudaStreamSynchronize(gpu->stream));
    }
    const std::vector<uint16_t> want = a.to_host();
    for (int repeat = 0; repeat < 10; ++repeat) {
      COMET_CUDA(cudaMemcpy(a.get(), input.bits.data(), a.bytes(), cudaMemcpyHostToDevice));
      const CudaGraph graph = CudaGraph::capture(gpu->stream, [&] {
        for (int link = 0; link < kLinks; ++link) step(link);
      });
      graph.launch(gpu->stream);
      ASSERT_TRUE(a.to_host() == want) << (kernel == Kernel::kMma ? "mma" : "wgmma");
    }
  }
}

/// Codes at their ends, scales far apart, inputs of ±2^20.
TEST(W4a16Cuda, Extremes) {
  const auto gpu = testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  HostWeight host({256, 512, 128, ScaleType::kBF16, true});
  for (size_t i = 0; i < host.words.size(); ++i) host.words[i] = i % 2 == 0 ? 0xFFFFFFFFU : 0U;
  for (size_t i = 0; i < host.scales.size(); ++i) {
    host.zeros[i] = i % 3 == 0 ? 0 : 15;
    host.scales[i] = std::ldexp(1.0F, static_cast<int>(i % 4) * 20 - 40);
    host.bits16[i] = to_bfloat16(host.scales[i]).bits;
  }
  const DeviceWeight weight(host, gpu->stream);
  HostInput input(9, 512);
  for (size_t i = 0; i < input.bits.size(); ++i) {
    input.values[i] = i % 5 == 0 ? -0x1p20F : i % 5 == 1 ? 0x1p-20F : 1.0F;
    input.bits[i] = to_bfloat16(input.values[i]).bits;
  }
  for (const Kernel kernel : kernels_of(*gpu)) {
    const Call call{kernel, {16, 2}, false, false, 0};
    expect_product(host, input, product(*gpu, weight, input, call), call, 1, 1);
  }
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
