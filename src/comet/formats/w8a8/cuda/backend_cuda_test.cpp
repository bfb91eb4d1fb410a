// w8a8-int and w8a8-fp8 on a GPU through their records: prepared weights of several parts, inputs
// that the CPU made, every kernel row against the format's reference.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "comet/device/cuda/cuda_resources.h"
#include "comet/formats/w8a8_fp8/w8a8_fp8.h"
#include "comet/formats/w8a8_int/w8a8_int.h"
#include "comet/tensor/float8.h"
#include "support/gpu.h"
#include "support/tensor_map.h"

namespace comet::formats {
namespace {

using testing::make_tensor;
using testing::TensorMap;

struct Case {
  const WeightFormat* format;
  std::vector<int64_t> part_rows;
  int64_t k = 0;
  bool has_bias = false;
};

/// Codes and scales of every part; the shape of a head where there is one part without a layer.
LinearWeight bind(const Case& c, TensorMap& tensors) {
  std::mt19937_64 random(3);
  LinearSpec spec;
  spec.name = c.part_rows.size() == 1 ? "lm_head" : "layer.linear";
  spec.prefix = c.part_rows.size() == 1 ? "" : "layer.";
  spec.part_rows = c.part_rows;
  spec.k = c.k;
  spec.has_bias = c.has_bias;
  for (size_t part = 0; part < c.part_rows.size(); ++part) {
    const int64_t rows = c.part_rows[part];
    spec.parts.push_back(c.part_rows.size() == 1 ? "lm_head" : "part" + std::to_string(part));
    const std::string name = spec.prefix + spec.parts.back();
    std::vector<int8_t> codes(static_cast<size_t>(rows * c.k));
    for (int8_t& code : codes) {
      code = static_cast<int8_t>(random());
      if (c.format == &w8a8_fp8_format() && (code & 0x7F) == 0x7F) code ^= 1;
    }
    if (c.format == &w8a8_int_format()) {
      tensors.set(name + ".weight", make_tensor<int8_t>({rows, c.k}, codes));
    } else {
      std::vector<Float8E4M3> numbers;
      for (const int8_t code : codes) numbers.push_back({static_cast<uint8_t>(code)});
      tensors.set(name + ".weight", make_tensor<Float8E4M3>({rows, c.k}, numbers));
    }
    std::vector<float> scales(static_cast<size_t>(rows));
    std::vector<float> biases(static_cast<size_t>(rows));
    for (float& scale : scales) scale = 0.001F * static_cast<float>(random() % 1000);
    for (float& bias : biases) bias = 0.1F * static_cast<float>(random() % 1000);
    tensors.set(name + ".weight_scale",
                make_tensor<float>(spec.prefix.empty() ? Shape{rows} : Shape{rows, 1}, scales));
    tensors.set(name + ".bias", make_tensor<float>({rows}, biases));
  }
  return *c.format->bind(spec, nullptr, tensors);
}

std::vector<float> random_rows(int64_t count) {
  std::mt19937_64 random(5);
  std::normal_distribution<float> normal;
  std::vector<float> rows(static_cast<size_t>(count));
  for (float& x : rows) x = normal(random);
  return rows;
}

template <typename T>
std::vector<T> to_host(const Tensor& device, cudaStream_t stream) {
  COMET_CUDA(cudaStreamSynchronize(stream));
  std::vector<T> values(static_cast<size_t>(device.num_elements()));
  COMET_CUDA(
      cudaMemcpy(values.data(), device.raw(), values.size() * sizeof(T), cudaMemcpyDeviceToHost));
  return values;
}

/// On the device, the codes' rows padded as CUDA's producers pad them.
Activation copy_input(Context& ctx, const Activation& host) {
  const Tensor& codes = host.parts[0];
  const int64_t k = codes.size(1);
  const int64_t stride = (k + 127) / 128 * 128;
  std::vector<int8_t> padded(static_cast<size_t>(host.rows * stride), 0);
  for (int64_t row = 0; row < host.rows; ++row) {
    std::memcpy(padded.data() + row * stride, codes.raw() + row * k, static_cast<size_t>(k));
  }
  Tensor device = copy_to_device(ctx, make_tensor<int8_t>({host.rows, stride}, padded));
  if (codes.dtype() == DType::kF8E4M3) {
    const Tensor typed = ctx.arena.alloc(codes.dtype(), {host.rows, stride});
    COMET_CUDA(cudaMemcpy(typed.raw(), device.raw(), padded.size(), cudaMemcpyDefault));
    device = typed;
  }
  return {host.rows, {device, copy_to_device(ctx, host.parts[1])}};
}

/// The GPU's runtime and one of the CPU that makes inputs.
struct Runtimes {
  std::unique_ptr<Runtime> gpu;
  std::unique_ptr<Runtime> cpu;
};

/// FP32 values of F32 or BF16 outputs.
std::vector<float> outputs(const Tensor& device, cudaStream_t stream) {
  if (device.dtype() == DType::kF32) return to_host<float>(device, stream);
  std::vector<float> values;
  for (const BFloat16 y : to_host<BFloat16>(device, stream)) values.push_back(to_float(y));
  return values;
}

void check_kernels(Runtimes& runtimes, const Case& c, int64_t rows, DType out_type = DType::kF32) {
  Context& ctx = runtimes.gpu->context();
  TensorMap tensors;
  const LinearWeight host = bind(c, tensors);
  LinearWeight device = host;
  ASSERT_TRUE(plan_linear(device, ctx.caps).ok());
  ASSERT_TRUE(device.backend->prepare(ctx, device).ok());
  const std::vector<float> x = random_rows(rows * c.k);
  const View<const float, 2> x_view{x.data(), {rows, c.k}};
  const Activation host_input =
      c.format->cpu.input_from_rows(runtimes.cpu->context(), host, x_view);
  const int64_t n = host.spec.n();
  std::vector<float> want(static_cast<size_t>(rows * n));
  c.format->reference_linear(host, host_input, {want.data(), {rows, n}});
  double largest = 0;
  for (const float y : want) largest = std::max(largest, std::abs(double{y}));
  const double tolerance = c.format == &w8a8_fp8_format() ? 4e-3 * largest : 0;
  const bool is_bf16 = out_type == DType::kBF16;
  const ArenaScope scope(ctx.arena);
  const Activation input = copy_input(ctx, host_input);
  for (const LinearKernel& kernel : c.format->cuda.kernels) {
    if (!kernel.supports(host, ctx.caps)) continue;
    const Tensor out = ctx.arena.alloc(out_type, {rows, n});
    COMET_CUDA(
        cudaMemsetAsync(out.raw(), 0xFF, static_cast<size_t>(out.num_bytes()), ctx.cuda->stream));
    kernel.run(ctx, device, input, out);
    const std::vector<float> got = outputs(out, ctx.cuda->stream);
    for (size_t i = 0; i < want.size(); ++i) {
      const float rounded = is_bf16 ? to_float(to_bfloat16(want[i])) : want[i];
      const double rounding = is_bf16 && tolerance > 0 ? std::abs(double{rounded}) / 128 : 0;
      ASSERT_LE(std::abs(double{got[i]} - double{rounded}), tolerance + rounding)
          << kernel.name << ", element " << i << " of " << rows << " x " << n << " x " << c.k
          << ": " << got[i] << ", not " << want[i];
    }
  }
}

/// Codes and scales of FP32 rows are the CPU's, bit for bit.
void check_input(Runtimes& runtimes, const Case& c, int64_t rows) {
  Context& ctx = runtimes.gpu->context();
  TensorMap tensors;
  const LinearWeight host = bind(c, tensors);
  const std::vector<float> x = random_rows(rows * c.k);
  const Activation want = c.format->cpu.input_from_rows(
      runtimes.cpu->context(), host, View<const float, 2>{x.data(), {rows, c.k}});
  const ArenaScope scope(ctx.arena);
  const Tensor device_x = copy_to_device(ctx, make_tensor<float>({rows, c.k}, x));
  const Activation got = c.format->cuda.input_from_rows(ctx, host, device_x);
  const bool is_int = c.format == &w8a8_int_format();
  const auto codes = to_host<uint8_t>(got.parts[0], ctx.cuda->stream);
  const auto scales = to_host<float>(got.parts[1], ctx.cuda->stream);
  const int64_t stride = got.parts[0].size(1);
  const int64_t want_stride = want.parts[0].size(1);
  const auto* want_codes = reinterpret_cast<const uint8_t*>(want.parts[0].raw());
  for (int64_t row = 0; row < rows; ++row) {
    const auto scale_idx = static_cast<size_t>(is_int ? row * 2 + 1 : row);
    ASSERT_EQ(scales[scale_idx], want.parts[1].data<float>()[scale_idx]) << c.format->name << row;
    for (int64_t i = 0; i < stride; ++i) {
      const int code = i < c.k ? want_codes[row * want_stride + i] : 0;
      ASSERT_EQ(codes[static_cast<size_t>(row * stride + i)], code)
          << c.format->name << ", row " << row << ", channel " << i;
    }
  }
}

TEST(W8A8Cuda, EveryKernelGivesTheReference) {
  if (!testing::open_gpu()) GTEST_SKIP() << "no GPU";
  auto gpu = Runtime::cuda(0, 2);
  ASSERT_TRUE(gpu.ok()) << gpu.error().message;
  Runtimes runtimes{*std::move(gpu), Runtime::cpu(CpuIsa::kPortable, 2)};
  for (const WeightFormat* format : {&w8a8_int_format(), &w8a8_fp8_format()}) {
    for (const int64_t rows : {1, 3, 16, 64, 100, 200}) {
      check_kernels(runtimes, {format, {384, 128, 128}, 384, true}, rows);
      check_kernels(runtimes, {format, {48, 16}, 512, false}, rows);
      check_kernels(runtimes, {format, {1000}, 384, false}, rows);
      check_kernels(runtimes, {format, {7, 6}, 131, true}, rows);
    }
    check_kernels(runtimes, {format, {48, 16}, 512, false}, 600, DType::kBF16);
  }
}

TEST(W8A8Cuda, CodesAreTheCpus) {
  if (!testing::open_gpu()) GTEST_SKIP() << "no GPU";
  auto gpu = Runtime::cuda(0, 2);
  ASSERT_TRUE(gpu.ok()) << gpu.error().message;
  Runtimes runtimes{*std::move(gpu), Runtime::cpu(CpuIsa::kPortable, 2)};
  for (const WeightFormat* format : {&w8a8_int_format(), &w8a8_fp8_format()}) {
    for (const int64_t k : {1, 131, 384, 4096}) check_input(runtimes, {format, {16, 3}, k}, 5);
  }
}

}  // namespace
}  // namespace comet::formats
