// dense on a GPU against FP64: types of weights, few and many tokens, ragged shapes, biases.
#include "comet/formats/dense/dense.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "comet/device/cuda/cuda_resources.h"
#include "support/gpu.h"
#include "support/tensor_map.h"

namespace comet::formats {
namespace {

using testing::make_tensor;
using testing::TensorMap;

struct DenseCase {
  DType dtype = DType::kBF16;
  std::vector<int64_t> part_rows;
  int64_t k = 0;
  bool has_bias = false;
};

std::vector<float> gaussian(int64_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = normal(random);
  return values;
}

Tensor tensor_of(const std::vector<float>& values, DType dtype, const Shape& shape) {
  if (dtype == DType::kF32) return make_tensor<float>(shape, values);
  if (dtype == DType::kBF16) {
    std::vector<BFloat16> rounded;
    for (const float value : values) rounded.push_back(to_bfloat16(value));
    return make_tensor<BFloat16>(shape, rounded);
  }
  std::vector<Float16> rounded;
  for (const float value : values) rounded.push_back(to_float16(value));
  return make_tensor<Float16>(shape, rounded);
}

LinearWeight bind(const DenseCase& c, TensorMap& tensors) {
  LinearSpec spec;
  spec.name = "layer.linear";
  spec.prefix = "layer.";
  spec.part_rows = c.part_rows;
  spec.k = c.k;
  spec.has_bias = c.has_bias;
  for (size_t i = 0; i < c.part_rows.size(); ++i) {
    const std::string name = "part" + std::to_string(i);
    const int64_t rows = c.part_rows[i];
    spec.parts.push_back(name);
    tensors.set("layer." + name + ".weight",
                tensor_of(gaussian(rows * c.k, i + 1), c.dtype, {rows, c.k}));
    tensors.set("layer." + name + ".bias", tensor_of(gaussian(rows, i + 11), c.dtype, {rows}));
  }
  return *dense_format().bind(spec, nullptr, tensors);
}

std::vector<float> to_host(const Tensor& device, cudaStream_t stream) {
  COMET_CUDA(cudaStreamSynchronize(stream));
  std::vector<std::byte> bytes(static_cast<size_t>(device.num_bytes()));
  COMET_CUDA(cudaMemcpy(bytes.data(), device.raw(), bytes.size(), cudaMemcpyDeviceToHost));
  std::vector<float> values;
  for (int64_t i = 0; i < device.num_elements(); ++i) {
    if (device.dtype() == DType::kF32) {
      values.push_back(reinterpret_cast<const float*>(bytes.data())[i]);
    } else {
      values.push_back(to_float(reinterpret_cast<const BFloat16*>(bytes.data())[i]));
    }
  }
  return values;
}

/// Largest |out − FP64| over (rounding of FP32 sums and of the output's type); above 1 is wrong.
double worst_error(Context& ctx, const LinearWeight& host, const LinearWeight& device, int64_t rows,
                   DType out_type) {
  const int64_t k = host.spec.k;
  const int64_t n = host.spec.n();
  const ArenaScope scope(ctx.arena);
  const Tensor x = tensor_of(gaussian(rows * k, 99), DType::kBF16, {rows, k});
  std::vector<float> x_values;
  for (int64_t i = 0; i < rows * k; ++i) x_values.push_back(to_float(x.data<BFloat16>()[i]));
  Activation host_input{rows, {make_tensor<float>({rows, k}, x_values)}};
  std::vector<float> want(static_cast<size_t>(rows * n));
  dense_format().reference_linear(host, host_input, {want.data(), {rows, n}});
  const Activation input{rows, {copy_to_device(ctx, x)}};
  const Tensor out = ctx.arena.alloc(out_type, {rows, n});
  COMET_CUDA(
      cudaMemsetAsync(out.raw(), 0xFF, static_cast<size_t>(out.num_bytes()), ctx.cuda->stream));
  device.kernel->run(ctx, device, input, out);
  const std::vector<float> got = to_host(out, ctx.cuda->stream);
  double worst = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const double rounding = out_type == DType::kBF16 ? std::abs(double{want[i]}) / 250 : 0;
    const double tolerance = 1e-5 * static_cast<double>(k) + rounding;
    const double error = std::abs(double{got[i]} - double{want[i]}) / tolerance;
    if (!(error <= worst)) worst = error;  // NaN stays
  }
  return worst;
}

void check(Context& ctx, const DenseCase& c, const std::vector<int64_t>& row_counts) {
  TensorMap tensors;
  const LinearWeight host = bind(c, tensors);
  LinearWeight device = host;
  ASSERT_TRUE(plan_linear(device, ctx.caps).ok());
  const Status prepared = device.backend->prepare(ctx, device);
  ASSERT_TRUE(prepared.ok()) << prepared.error().message;
  for (const int64_t rows : row_counts) {
    for (const DType out_type : {DType::kBF16, DType::kF32}) {
      EXPECT_LE(worst_error(ctx, host, device, rows, out_type), 1.0)
          << dtype_name(c.dtype) << " [" << host.spec.n() << ", " << c.k << "], " << rows
          << " rows to " << dtype_name(out_type) << (c.has_bias ? " with bias" : "");
    }
  }
}

TEST(DenseCuda, AgainstFp64) {
  if (!testing::open_gpu()) GTEST_SKIP() << "no GPU";
  const auto runtime = Runtime::cuda(0, 2);
  ASSERT_TRUE(runtime.ok()) << runtime.error().message;
  Context& ctx = (*runtime)->context();
  const std::vector<int64_t> rows{1, 3, 8, 9, 16, 17, 64, 100};
  for (const DType dtype : {DType::kBF16, DType::kF16, DType::kF32}) {
    for (const bool has_bias : {false, true}) {
      check(ctx, {dtype, {384, 128, 128}, 384, has_bias}, rows);
      check(ctx, {dtype, {40, 7}, 1160, has_bias}, rows);
      check(ctx, {dtype, {37}, 100, has_bias}, {1, 5, 40});
      check(ctx, {dtype, {1}, 8, has_bias}, {1, 16, 17});
    }
  }
}

TEST(DenseCuda, LongRows) {
  if (!testing::open_gpu()) GTEST_SKIP() << "no GPU";
  const auto runtime = Runtime::cuda(0, 2);
  ASSERT_TRUE(runtime.ok()) << runtime.error().message;
  check((*runtime)->context(), {DType::kBF16, {48}, 14336, false}, {1, 7, 16, 33});
}

/// F32 weights that are BF16 numbers become BF16; others stay as they are.
TEST(DenseCuda, Fp32WeightsLoseNothing) {
  if (!testing::open_gpu()) GTEST_SKIP() << "no GPU";
  const auto runtime = Runtime::cuda(0, 2);
  ASSERT_TRUE(runtime.ok()) << runtime.error().message;
  Context& ctx = (*runtime)->context();
  for (const bool is_exact : {true, false}) {
    TensorMap tensors;
    LinearWeight weight = bind({DType::kF32, {16}, 64, false}, tensors);
    auto* values = weight.tensors[0].data<float>();
    for (int64_t i = 0; i < 16 * 64; ++i) values[i] = to_float(to_bfloat16(values[i]));
    if (!is_exact) values[1023] = 1.0009765625F;
    ASSERT_TRUE(plan_linear(weight, ctx.caps).ok());
    ASSERT_TRUE(weight.backend->prepare(ctx, weight).ok());
    EXPECT_EQ(weight.tensors[0].dtype(), is_exact ? DType::kBF16 : DType::kF32);
  }
}

}  // namespace
}  // namespace comet::formats
