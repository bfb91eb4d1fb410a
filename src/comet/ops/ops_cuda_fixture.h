// What the tests of operators on a GPU share: drawn tensors, both devices, comparisons of BF16 with
// FP32. Callers: image_ops_cuda_test.cpp, training_ops_cuda_test.cpp.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <memory>

#include "comet/base/rng.h"
#include "comet/ops/op_table.h"

namespace comet::testing {

inline constexpr double kHalfUlp = 0x1p-8;  // of BF16, relative

/// FP32 values that BF16 holds.
inline Tensor rounded(const Shape& shape, uint64_t seed, float scale = 1.0F) {
  Tensor tensor = allocate_tensor(host_allocator(), DType::kF32, shape);
  Rng rng(seed);
  for (int64_t i = 0; i < shape.num_elements(); ++i) {
    tensor.data<float>()[i] = to_float(to_bfloat16(scale * rng.next_normal()));
  }
  return tensor;
}

inline Tensor to_bf16(const Tensor& x) {
  Tensor out = allocate_tensor(host_allocator(), DType::kBF16, x.shape());
  for (int64_t i = 0; i < x.num_elements(); ++i) {
    out.data<BFloat16>()[i] = to_bfloat16(x.data<float>()[i]);
  }
  return out;
}

/// FP32 of whatever a device holds.
inline Tensor to_f32(Context& ctx, const Tensor& x) {
  const Tensor host = copy_to_host(ctx, x);
  if (host.dtype() == DType::kF32) return host;
  Tensor out = allocate_tensor(host_allocator(), DType::kF32, host.shape());
  for (int64_t i = 0; i < host.num_elements(); ++i) {
    out.data<float>()[i] = to_float(host.data<BFloat16>()[i]);
  }
  return out;
}

class OpsCuda : public ::testing::Test {
 protected:
  void SetUp() override {
    auto runtime = Runtime::cuda(0, 1);
    if (!runtime.ok()) GTEST_SKIP() << "no GPU";
    gpu_ = *std::move(runtime);
    cpu_ = Runtime::cpu(detect_cpu_isa(), 2);
  }
  Context& gpu() { return gpu_->context(); }
  Context& cpu() { return cpu_->context(); }

  /// BF16 on the device; every bit set where x is undefined.
  Tensor on_gpu(const Tensor& x) { return copy_to_device(gpu(), to_bf16(x)); }
  Tensor weights_on_gpu(const Tensor& x) { return copy_to_device(gpu(), x); }
  Tensor poisoned(const Shape& shape) {
    Tensor host = allocate_tensor(host_allocator(), DType::kBF16, shape);
    std::memset(host.raw(), 0xFF, static_cast<size_t>(host.num_bytes()));
    return copy_to_device(gpu(), host);
  }

  /// |gpu − cpu| ≤ half an ulp of BF16, relative, and `slack` of the largest.
  void expect_near(const Tensor& on_gpu, const Tensor& on_cpu, double slack,
                   double relative = kHalfUlp) {
    const Tensor got = to_f32(gpu(), on_gpu);
    ASSERT_EQ(got.num_elements(), on_cpu.num_elements());
    double largest = 0;
    for (int64_t i = 0; i < got.num_elements(); ++i) {
      largest = std::max(largest, std::abs(double{on_cpu.data<float>()[i]}));
    }
    for (int64_t i = 0; i < got.num_elements(); ++i) {
      const double expected = on_cpu.data<float>()[i];
      const double error = std::abs(got.data<float>()[i] - expected);
      ASSERT_TRUE(error <= relative * std::abs(expected) + slack * largest)
          << i << ": " << got.data<float>()[i] << ", expected " << expected;
    }
  }

  std::unique_ptr<Runtime> gpu_;
  std::unique_ptr<Runtime> cpu_;
};

}  // namespace comet::testing
