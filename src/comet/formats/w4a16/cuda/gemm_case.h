// One w4a16 product for tests: a random weight as compressed-tensors lays it and in blocks on the
// GPU, random inputs, a launch with poisoned outputs, sums by definition. Callers: *_cuda_test.cpp
// of this folder.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "comet/base/rng.h"
#include "comet/device/cuda/tensor_map.h"
#include "comet/formats/w4a16/cuda/gemm.h"
#include "comet/tensor/dtype.h"
#include "support/gpu.h"

namespace comet::formats::w4a16_cuda {

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

enum class Kernel { kMma, kWgmma };

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
  /// What `kernel` multiplies: multiplies_scaled().
  [[nodiscard]] double multiplied(Kernel kernel, int64_t row, int64_t channel) const {
    const double exact = value(row, channel);
    if (kernel == Kernel::kMma || !is_scaled()) return exact;
    return to_float(to_bfloat16(static_cast<float>(exact)));
  }
  [[nodiscard]] bool is_scaled() const {
    return shape.group == kBlockChannels && shape.type == ScaleType::kBF16 && !shape.zeros;
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

struct Call {
  Kernel kernel = Kernel::kMma;
  GemmPlan plan;
  bool bf16 = false;
  bool bias = false;
  int32_t extra_columns = 0;  // of an output row, to stay untouched
};

inline std::vector<float> bias_of(int32_t n) {
  Rng rng(5);
  std::vector<float> bias;
  for (int32_t i = 0; i < n; ++i) bias.push_back(rng.next_normal());
  return bias;
}

/// The output as floats, [rows, n + extra_columns], poisoned before.
inline std::vector<float> product(const CudaResources& gpu, const DeviceWeight& weight,
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
  args.arrivals = gpu.arrivals;
  if (call.kernel == Kernel::kMma) {
    const DeviceArray<float> workspace(static_cast<size_t>(workspace_floats(args, call.plan)));
    launch_gemm_mma(args, call.plan, workspace.get(), gpu.stream);
    COMET_CUDA(cudaStreamSynchronize(gpu.stream));
  } else {
    const DeviceArray<float> workspace(static_cast<size_t>(wgmma_workspace_floats(call.plan)));
    args.workspace = workspace.get();
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

inline Want want_of(const std::vector<double>& row, const HostInput& input, int64_t token) {
  Want want;
  const float* x = input.values.data() + token * input.k;
  for (size_t i = 0; i < row.size(); ++i) {
    const double term = row[i] * x[i];
    want.sum += term;
    want.size += std::abs(term);
  }
  return want;
}

inline std::vector<Kernel> kernels_of(const CudaResources& gpu) {
  if (gpu.sm == 90) return {Kernel::kMma, Kernel::kWgmma};
  return {Kernel::kMma};
}

inline const char* kernel_name(Kernel kernel) { return kernel == Kernel::kMma ? "mma" : "wgmma"; }

/// Tiles that a kernel has for a weight.
inline std::vector<GemmPlan> tiles_of(Kernel kernel, const Blocks& blocks) {
  if (kernel == Kernel::kMma) return {{16}, {64}, {128}};
  std::vector<GemmPlan> tiles;
  for (const int32_t tokens : {8, 16, 32, 64, 128}) {
    if (tokens < 128) tiles.push_back({tokens, 1, TileShape::kHalf});
    tiles.push_back({tokens, 1, TileShape::kAlone});
    if (tokens < 128 && multiplies_scaled(blocks)) tiles.push_back({tokens, 1, TileShape::kTall});
  }
  return tiles;
}

inline std::string plan_text(const GemmPlan& plan) {
  constexpr const char* kShapes[] = {"half", "alone", "tall"};
  return std::to_string(plan.tile_tokens) + " " + kShapes[static_cast<int>(plan.shape)] +
         " splits=" + std::to_string(plan.num_splits);
}

}  // namespace comet::formats::w4a16_cuda
