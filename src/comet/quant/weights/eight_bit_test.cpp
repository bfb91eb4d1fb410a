// Weights of the 8-bit formats: s8 and E4M3 codes under one scale per output channel.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>

#include "comet/quant/weights/host_hessian.h"
#include "comet/quant/weights/weight_methods.h"
#include "comet/tensor/float8.h"
#include "support/tiny_llama.h"

namespace comet::quant {
namespace {

using formats::Granularity;
using testing::random_matrix;

class EightBitTest : public ::testing::Test {
 protected:
  CodedWeight quantize(std::string_view method, WeightCodes codes, DType scale_type,
                       SiteHessian* hessian = nullptr, bool search_scales = true) {
    const WeightProblem problem{"w",        w_,    Granularity::kChannel, {}, hessian, 0.01,
                                scale_type, codes, search_scales};
    return find_weight_method(method).value()->quantize(runtime_->context(), problem).value();
  }
  float absmax(int64_t row) {
    float largest = 0.0F;
    for (int64_t c = 0; c < w_.cols; ++c) largest = std::max(largest, std::fabs(w_.row(row)[c]));
    return largest;
  }
  Matrix decoded(const CodedWeight& coded) {
    return decoded_weight(runtime_->context().pool, coded);
  }
  /// Σ over rows of Δ·H·Δᵀ.
  double output_error(const Matrix& got, const SymmetricMatrix& h) {
    double total = 0.0;
    for (int64_t n = 0; n < w_.rows; ++n) {
      for (int64_t i = 0; i < w_.cols; ++i) {
        const double di = static_cast<double>(w_.row(n)[i]) - got.row(n)[i];
        for (int64_t j = 0; j < w_.cols; ++j) {
          const double dj = static_cast<double>(w_.row(n)[j]) - got.row(n)[j];
          total += di * h.entry(i, j) * dj;
        }
      }
    }
    return total;
  }

  std::unique_ptr<Runtime> runtime_ = Runtime::cpu(detect_cpu_isa(), 2);
  Matrix w_ = random_matrix(9, 256, 3, 0.05F);
};

/// Σ x·xᵀ of rows that share a few strong directions.
SymmetricMatrix correlated_hessian(int64_t k) {
  Matrix rows = random_matrix(500, k, 11);
  const Matrix mix = random_matrix(8, k, 12);
  const Matrix strength = random_matrix(rows.rows, 8, 13);
  SymmetricMatrix h(k);
  for (int64_t t = 0; t < rows.rows; ++t) {
    float* x = rows.row(t);
    for (int64_t d = 0; d < 8; ++d) {
      for (int64_t c = 0; c < k; ++c) x[c] += 2.0F * strength.row(t)[d] * mix.row(d)[c];
    }
    for (int64_t i = 0; i < k; ++i) {
      for (int64_t j = 0; j <= i; ++j) h.at(i, j) += static_cast<double>(x[i]) * x[j];
    }
  }
  return h;
}

TEST_F(EightBitTest, IntegersAreNearestUnderTheStoredScale) {
  std::fill(w_.row(4), w_.row(5), 0.0F);
  for (const DType type : {DType::kF32, DType::kBF16, DType::kF16}) {
    const CodedWeight coded = quantize("rtn", WeightCodes::kS8, type);
    for (int64_t n = 0; n < w_.rows; ++n) {
      float scale = absmax(n) / 127.0F;
      if (type == DType::kBF16) scale = to_float(to_bfloat16(scale));
      if (type == DType::kF16) scale = to_float(to_float16(scale));
      EXPECT_EQ(coded.grid.channel_scale[n], scale);
      for (int64_t c = 0; c < w_.cols; ++c) {
        const int code{coded.codes[n * w_.cols + c]};
        EXPECT_GE(code, -127);
        if (n == 4) {
          EXPECT_EQ(code, 0);
        }
        // A scale rounded down lets the largest value exceed 127 by a little.
        EXPECT_LE(std::fabs(w_.row(n)[c] - static_cast<float>(code) * scale), 0.76F * scale);
      }
    }
  }
}

TEST_F(EightBitTest, Float8CodesAreTheNearestNumbers) {
  std::fill(w_.row(4), w_.row(5), 0.0F);
  w_.row(2)[7] = 30.0F;  // the others become subnormal numbers
  const CodedWeight coded = quantize("rtn", WeightCodes::kE4M3, DType::kBF16);
  const Matrix got = decoded(coded);
  for (int64_t n = 0; n < w_.rows; ++n) {
    const float scale = to_float(to_bfloat16(absmax(n) / kMaxFloat8E4M3));
    EXPECT_EQ(coded.grid.channel_scale[n], scale);
    for (int64_t c = 0; c < w_.cols; ++c) {
      const auto bits = std::bit_cast<uint8_t>(coded.codes[n * w_.cols + c]);
      ASSERT_NE(bits & 0x7F, 0x7F);  // no NaN
      const double want = w_.row(n)[c];
      const double error = std::fabs(got.row(n)[c] - want);
      // Three bits of mantissa; below 2^-6 steps of 2^-9; the largest may be clamped.
      ASSERT_LE(error, std::max(std::fabs(want) / 16.0, 0.5 * 0x1p-9 * scale) * 1.001);
    }
  }
  EXPECT_EQ(got.row(4)[0], 0.0F);
}

TEST_F(EightBitTest, FeedbackLowersTheOutputError) {
  const SymmetricMatrix h = correlated_hessian(256);
  const double rtn = output_error(decoded(quantize("rtn", WeightCodes::kS8, DType::kF32)), h);
  for (const bool search : {true, false}) {
    HostHessian hessian(runtime_->context(), h);
    const CodedWeight gptq = quantize("gptq", WeightCodes::kS8, DType::kF32, &hessian, search);
    EXPECT_LT(output_error(decoded(gptq), h), 0.6 * rtn);
    if (search) continue;
    for (int64_t n = 0; n < w_.rows; ++n) {
      EXPECT_EQ(gptq.grid.channel_scale[n], absmax(n) / 127.0F);
    }
  }
}

TEST_F(EightBitTest, ScalesOfGroupsMayComeFromAbsmaxToo) {
  const SymmetricMatrix h = correlated_hessian(256);
  HostHessian hessian(runtime_->context(), h);
  for (const bool search : {true, false}) {
    const WeightProblem problem{"w",  w_,           Granularity::kGroup, {},    &hessian,
                                0.01, DType::kBF16, WeightCodes::kS4,    search};
    const auto coded = find_weight_method("gptq").value()->quantize(runtime_->context(), problem);
    const auto rtn = find_weight_method("rtn").value()->quantize(runtime_->context(), problem);
    EXPECT_EQ(coded->grid.group_scale == rtn->grid.group_scale, !search);
  }
}

}  // namespace
}  // namespace comet::quant
