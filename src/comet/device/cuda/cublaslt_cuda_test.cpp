// Products by cuBLASLt: each pair of types that Comet uses, by definition.
#include "comet/device/cuda/cublaslt.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>

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

/// Element (row, column) of an operand that may lie the other way round.
std::vector<BFloat16> laid(int64_t rows, int64_t columns, int64_t seed, bool transposed) {
  std::vector<BFloat16> values(static_cast<size_t>(rows * columns));
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) {
      values[static_cast<size_t>(transposed ? j * rows + i : i * columns + j)] =
          element<BFloat16>(value_of(i * columns + j, seed));
    }
  }
  return values;
}

TEST(CublasLt, FormsEndsAndSums) {
  const auto gpu = testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  CublasLt& lt = *cublaslt_of(*gpu).value();
  std::vector<float> bias;
  for (int64_t i = 0; i < kN; ++i) bias.push_back(static_cast<float>(value_of(i, 5)));
  const DeviceArray<float> device_bias(bias);
  for (const MatmulForm form : {MatmulForm::kForward, MatmulForm::kData, MatmulForm::kWeight}) {
    for (const bool add : {false, true}) {
      SCOPED_TRACE(::testing::Message() << static_cast<int>(form) << " add " << add);
      const DeviceArray<BFloat16> x(laid(kRows, kK, 1, form == MatmulForm::kWeight));
      const DeviceArray<BFloat16> w(laid(kN, kK, 2, form != MatmulForm::kForward));
      const DeviceArray<float> out(std::vector<float>(kRows * kN, 3.0F));
      MatmulDesc desc{.out = DType::kF32, .rows = kRows, .n = kN, .k = kK};
      desc.form = form;
      desc.end = MatmulEnd::kBias;
      desc.add_to_out = add;
      run_matmul(lt, desc,
                 {.x = x.get(), .w = w.get(), .out = out.get(), .bias = device_bias.get()},
                 gpu->stream);
      const std::vector<float> got = out.to_host();
      for (int64_t row = 0; row < kRows; ++row) {
        for (int64_t column = 0; column < kN; ++column) {
          double want = bias[static_cast<size_t>(column)] + (add ? 3.0 : 0.0);
          for (int64_t i = 0; i < kK; ++i) {
            want += value_of(row * kK + i, 1) * value_of(column * kK + i, 2);
          }
          ASSERT_EQ(got[static_cast<size_t>(row * kN + column)], want) << row << ", " << column;
        }
      }
    }
  }
}

TEST(CublasLt, GeluOfTheEpilogueIsTheTanhApproximation) {
  const auto gpu = testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  constexpr int64_t kSide = 128;  // x is the unit matrix, so that the product is w
  std::vector<BFloat16> unit(kSide * kSide);
  std::vector<BFloat16> values;
  for (int64_t i = 0; i < kSide * kSide; ++i) {
    if (i % (kSide + 1) == 0) unit[static_cast<size_t>(i)] = to_bfloat16(1.0F);
    values.push_back(to_bfloat16(-6.0F + 12.0F * static_cast<float>(i) / (kSide * kSide)));
  }
  const DeviceArray<BFloat16> x(unit);
  const DeviceArray<BFloat16> w(values);
  const DeviceArray<float> out(kSide * kSide);
  const DeviceArray<float> bias(std::vector<float>(kSide, 0.0F));
  MatmulDesc desc{.out = DType::kF32, .rows = kSide, .n = kSide, .k = kSide};
  desc.end = MatmulEnd::kBiasGeluTanh;
  run_matmul(*cublaslt_of(*gpu).value(), desc,
             {.x = x.get(), .w = w.get(), .out = out.get(), .bias = bias.get()}, gpu->stream);
  const std::vector<float> got = out.to_host();
  double from_tanh = 0;
  double from_exact = 0;
  for (int64_t row = 0; row < kSide; ++row) {
    for (int64_t column = 0; column < kSide; ++column) {
      const double v = as_float(values[static_cast<size_t>(column * kSide + row)]);
      const double y = got[static_cast<size_t>(row * kSide + column)];
      const double inner = std::sqrt(2 / M_PI) * (v + 0.044715 * v * v * v);
      from_tanh = std::max(from_tanh, std::abs(y - 0.5 * v * (1 + std::tanh(inner))));
      from_exact = std::max(from_exact, std::abs(y - 0.5 * v * std::erfc(-v * M_SQRT1_2)));
    }
  }
  std::printf("cuBLASLt's GELU: %.1e from the tanh form, %.1e from the exact one\n", from_tanh,
              from_exact);
  EXPECT_LT(from_tanh, 1e-3);  // its tanh is an approximation, too
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
