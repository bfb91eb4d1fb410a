// Products by cuBLASLt: each pair of types that Comet uses, by definition.
#include "comet/device/cuda/cublaslt.h"

#include <gtest/gtest.h>

#include <cmath>

#include "comet/tensor/float8.h"
#include "support/gpu.h"

namespace comet {
namespace {

using testing::DeviceArray;

constexpr int64_t kRows = 48;
constexpr int64_t kN = 160;
constexpr int64_t kK = 256;

/// Small integers, which every type holds exactly: so are their sums in FP32.
int value_of(int64_t i, int64_t seed) { return static_cast<int>((i * 7 + seed * 13) % 11) - 5; }

template <typename T>
T element(int value);
template <>
BFloat16 element(int value) {
  return to_bfloat16(static_cast<float>(value));
}
template <>
Float16 element(int value) {
  return to_float16(static_cast<float>(value));
}
template <>
float element(int value) {
  return static_cast<float>(value);
}
template <>
Float8E4M3 element(int value) {
  return to_float8_e4m3(static_cast<float>(value));
}
template <>
int8_t element(int value) {
  return static_cast<int8_t>(value);
}

float as_float(float y) { return y; }
float as_float(int32_t y) { return static_cast<float>(y); }
float as_float(BFloat16 y) { return to_float(y); }

template <typename T>
std::vector<T> matrix(int64_t rows, int64_t seed) {
  std::vector<T> values;
  for (int64_t i = 0; i < rows * kK; ++i) values.push_back(element<T>(value_of(i, seed)));
  return values;
}

struct Scales {
  std::vector<float> x;
  std::vector<float> w;
};

/// Out's rounding apart, every product here is exact.
template <typename In, typename Out>
void check(CublasLt& lt, const CudaResources& gpu, MatmulDesc desc, const Scales& scales) {
  desc.in = DTypeOf<In>::value;
  desc.out = DTypeOf<Out>::value;
  desc.rows = kRows;
  desc.n = kN;
  desc.k = kK;
  const Status planned = plan_matmul(lt, desc);
  ASSERT_TRUE(planned.ok()) << planned.error().message;
  const DeviceArray<In> x(matrix<In>(kRows, 1));
  const DeviceArray<In> w(matrix<In>(kN, 2));
  const DeviceArray<float> x_scale(scales.x);
  const DeviceArray<float> w_scale(scales.w);
  const DeviceArray<Out> out(static_cast<size_t>(kRows * kN));
  run_matmul(lt, desc,
             {.x = x.get(),
              .w = w.get(),
              .out = out.get(),
              .x_scale = x_scale.get(),
              .w_scale = w_scale.get()},
             gpu.stream);
  const std::vector<Out> got = out.to_host();
  for (int64_t row = 0; row < kRows; ++row) {
    for (int64_t column = 0; column < kN; ++column) {
      double want = 0;
      for (int64_t i = 0; i < kK; ++i) {
        want += value_of(row * kK + i, 1) * value_of(column * kK + i, 2);
      }
      if (!scales.x.empty()) {
        want *= double{scales.x[static_cast<size_t>(row) % scales.x.size()]} *
                double{scales.w[static_cast<size_t>(column) % scales.w.size()]};
      }
      const double tolerance = std::abs(want) / 200 + 1e-3;
      ASSERT_NEAR(as_float(got[static_cast<size_t>(row * kN + column)]), want, tolerance)
          << row << ", " << column << " of " << dtype_name(desc.in);
    }
  }
}

TEST(CublasLt, EveryPairOfTypes) {
  const auto gpu = testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  const auto lt = cublaslt_of(*gpu);
  ASSERT_TRUE(lt.ok()) << lt.error().message;
  check<BFloat16, BFloat16>(**lt, *gpu, {}, {});
  check<BFloat16, float>(**lt, *gpu, {}, {});
  check<Float16, float>(**lt, *gpu, {}, {});
  check<float, float>(**lt, *gpu, {}, {});
  check<int8_t, int32_t>(**lt, *gpu, {}, {});
}

TEST(CublasLt, E4M3WithScales) {
  const auto gpu = testing::open_gpu();
  if (!gpu || gpu->sm < 89) GTEST_SKIP() << "no GPU with E4M3";
  const auto lt = cublaslt_of(*gpu);
  ASSERT_TRUE(lt.ok()) << lt.error().message;
  check<Float8E4M3, BFloat16>(**lt, *gpu, {}, {});
  check<Float8E4M3, float>(**lt, *gpu, {}, {});
  MatmulDesc desc;
  desc.scale = MatmulScale::kTensor;
  check<Float8E4M3, BFloat16>(**lt, *gpu, desc, {{0.5F}, {3.0F}});
  if (gpu->sm < 90) return;
  Scales scales;
  for (int64_t i = 0; i < kRows; ++i) scales.x.push_back(0.01F * static_cast<float>(i + 1));
  for (int64_t i = 0; i < kN; ++i) scales.w.push_back(0.02F * static_cast<float>(i + 1));
  desc.scale = MatmulScale::kOuter;
  check<Float8E4M3, BFloat16>(**lt, *gpu, desc, scales);
}

TEST(CublasLt, WhatItLacksIsAnError) {
  const auto gpu = testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  const auto lt = cublaslt_of(*gpu);
  ASSERT_TRUE(lt.ok()) << lt.error().message;
  const MatmulDesc desc{.in = DType::kI8, .out = DType::kBF16, .rows = 16, .n = 16, .k = 16};
  EXPECT_FALSE(plan_matmul(**lt, desc).ok());
}

TEST(CublasLt, IsOpenedOnce) {
  const auto gpu = testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  EXPECT_EQ(cublaslt_of(*gpu).value(), cublaslt_of(*gpu).value());
}

}  // namespace
}  // namespace comet
