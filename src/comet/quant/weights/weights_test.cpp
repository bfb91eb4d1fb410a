#include <gtest/gtest.h>

#include <cmath>

#include "comet/base/rng.h"
#include "comet/quant/fmpq/activation_rows.h"
#include "comet/quant/weights/cholesky.h"
#include "comet/quant/weights/gptq.h"
#include "comet/quant/weights/hessian.h"
#include "comet/quant/weights/host_hessian.h"
#include "comet/quant/weights/weight_methods.h"

namespace comet::quant {
namespace {

using formats::Granularity;

constexpr std::array kGranularities{Granularity::kChannel, Granularity::kGroup,
                                    Granularity::kProgressive};

Matrix random_matrix(int64_t rows, int64_t cols, uint64_t seed) {
  Matrix m(rows, cols);
  Rng rng(seed);
  for (float& x : m.values) x = rng.next_normal();
  return m;
}

/// Σ x·xᵀ of rows that share a few strong directions.
SymmetricMatrix correlated_hessian(int64_t k, int64_t num_rows, Matrix* rows_out = nullptr) {
  Matrix rows = random_matrix(num_rows, k, 11);
  const Matrix mix = random_matrix(8, k, 12);
  const Matrix strength = random_matrix(num_rows, 8, 13);
  for (int64_t t = 0; t < num_rows; ++t) {
    for (int64_t d = 0; d < 8; ++d) {
      for (int64_t c = 0; c < k; ++c) rows.row(t)[c] += 2.0F * strength.row(t)[d] * mix.row(d)[c];
    }
  }
  SymmetricMatrix h(k);
  for (int64_t t = 0; t < num_rows; ++t) {
    for (int64_t i = 0; i < k; ++i) {
      for (int64_t j = 0; j < k; ++j) {
        h.at(i, j) += static_cast<double>(rows.row(t)[i]) * rows.row(t)[j];
      }
    }
  }
  if (rows_out != nullptr) *rows_out = rows;
  return h;
}

double weight_error(const Matrix& w, const Matrix& decoded) {
  double total = 0.0;
  for (size_t i = 0; i < w.values.size(); ++i) {
    const double d = static_cast<double>(w.values[i]) - decoded.values[i];
    total += d * d;
  }
  return total;
}

/// Σ over rows of Δ·H·Δᵀ.
double output_error(const Matrix& w, const Matrix& decoded, const SymmetricMatrix& h) {
  double total = 0.0;
  for (int64_t n = 0; n < w.rows; ++n) {
    for (int64_t i = 0; i < w.cols; ++i) {
      const double di = static_cast<double>(w.row(n)[i]) - decoded.row(n)[i];
      for (int64_t j = 0; j < w.cols; ++j) {
        total += di * h.at(i, j) * (static_cast<double>(w.row(n)[j]) - decoded.row(n)[j]);
      }
    }
  }
  return total;
}

TEST(WeightGrid, CodesStayInTheirRange) {
  const auto runtime = Runtime::cpu(detect_cpu_isa(), 1);
  Context& ctx = runtime->context();
  Matrix w = random_matrix(6, 256, 1);
  w.row(0)[5] = 1000.0F;                                                          // one huge value
  std::fill(w.row(1), w.row(2), 0.0F);                                            // a zero row
  std::fill(w.row(2), w.row(2) + 128, 0.0F);                                      // a zero group
  for (int64_t c = 0; c < 256; ++c) w.row(3)[c] = std::fabs(w.row(3)[c]) + 5.0F;  // one sign
  for (int64_t c = 0; c < 256; ++c) w.row(4)[c] *= 1e-30F;
  for (const WeightMethod& method : weight_methods()) {
    if (method.needs_hessian) continue;
    for (const Granularity granularity : kGranularities) {
      const auto coded = method.quantize(ctx, {"w", w, granularity, {}});
      ASSERT_TRUE(coded.ok());
      const int low = granularity == Granularity::kProgressive ? 0 : -8;
      for (const int8_t code : coded->codes) {
        EXPECT_GE(code, low);
        EXPECT_LE(code, low + 15);
      }
      for (const uint8_t g : coded->grid.group_multiplier) {
        EXPECT_GE(g, 1);
        EXPECT_LE(g, 16);
      }
      const Matrix decoded = decoded_weight(ctx.pool, *coded);
      for (int64_t c = 0; c < 256; ++c) EXPECT_EQ(decoded.row(1)[c], 0.0F);
    }
  }
}

TEST(WeightGrid, ProgressiveLevelsFitInEightBits) {
  const auto runtime = Runtime::cpu(detect_cpu_isa(), 1);
  Context& ctx = runtime->context();
  const Matrix w = random_matrix(64, 512, 4);
  const auto coded = weight_methods()[1].quantize(ctx, {"w", w, Granularity::kProgressive, {}});
  ASSERT_TRUE(coded.ok());
  for (int64_t n = 0; n < w.rows; ++n) {
    for (int64_t c = 0; c < w.cols; ++c) {
      const int64_t cell = c / 128 * w.rows + n;
      const int w8 = coded->codes[n * w.cols + c] * coded->grid.group_multiplier[cell] +
                     coded->grid.group_offset[cell];
      EXPECT_GE(w8, -128);
      EXPECT_LE(w8, 127);
    }
  }
}

TEST(WeightGrid, ScalesAreRoundedBeforeCoding) {
  const auto runtime = Runtime::cpu(detect_cpu_isa(), 1);
  Context& ctx = runtime->context();
  const Matrix w = random_matrix(3, 128, 9);
  const auto coded = weight_methods()[0].quantize(ctx, {"w", w, Granularity::kGroup, {}});
  ASSERT_TRUE(coded.ok());
  for (int64_t n = 0; n < w.rows; ++n) {
    float largest = 0.0F;
    for (int64_t c = 0; c < 128; ++c) largest = std::max(largest, std::fabs(w.row(n)[c]));
    const float scale = to_float(to_float16(largest / 7.0F));
    EXPECT_EQ(coded->grid.group_scale[n], scale);
    for (int64_t c = 0; c < 128; ++c) {
      const double exact = static_cast<double>(w.row(n)[c]) / scale;
      EXPECT_LE(std::fabs(exact - coded->codes[n * 128 + c]), 0.5001);
    }
  }
}

TEST(WeightMethods, SearchBeatsRounding) {
  const auto runtime = Runtime::cpu(detect_cpu_isa(), 1);
  Context& ctx = runtime->context();
  const Matrix w = random_matrix(32, 512, 2);
  for (const Granularity granularity : kGranularities) {
    const auto rtn = weight_methods()[0].quantize(ctx, {"w", w, granularity, {}});
    const auto clip = weight_methods()[1].quantize(ctx, {"w", w, granularity, {}});
    const double rtn_error = weight_error(w, decoded_weight(ctx.pool, *rtn));
    const double clip_error = weight_error(w, decoded_weight(ctx.pool, *clip));
    EXPECT_LT(clip_error, 0.95 * rtn_error) << formats::granularity_name(granularity);
  }
}

TEST(WeightMethods, FeedbackLowersTheOutputError) {
  const auto runtime = Runtime::cpu(detect_cpu_isa(), 2);
  Context& ctx = runtime->context();
  const SymmetricMatrix h = correlated_hessian(256, 600);
  const Matrix w = random_matrix(21, 256, 3);
  for (const Granularity granularity : kGranularities) {
    const auto clip = weight_methods()[1].quantize(ctx, {"w", w, granularity, {}});
    HostHessian hessian(ctx, h);
    const auto gptq = weight_methods()[2].quantize(ctx, {"w", w, granularity, {}, &hessian});
    ASSERT_TRUE(gptq.ok());
    EXPECT_LT(output_error(w, decoded_weight(ctx.pool, *gptq), h),
              0.6 * output_error(w, decoded_weight(ctx.pool, *clip), h))
        << formats::granularity_name(granularity);
  }
}

/// The running update of the paper with the explicit inverse, in FP64.
std::vector<int8_t> textbook_gptq(const Matrix& w, const SymmetricMatrix& h, const WeightGrid& grid,
                                  const std::vector<int32_t>& order, double damp) {
  const int64_t k = w.cols;
  double mean = 0.0;
  for (int64_t i = 0; i < k; ++i) mean += h.at(i, i) / static_cast<double>(k);
  std::vector<int8_t> codes(w.values.size());
  // Inverse of the reordered, damped H by Gauss-Jordan.
  std::vector<std::vector<double>> a(k, std::vector<double>(2 * k, 0.0));
  for (int64_t i = 0; i < k; ++i) {
    for (int64_t j = 0; j < k; ++j) a[i][j] = h.at(order[i], order[j]) + (i == j ? damp * mean : 0);
    a[i][k + i] = 1.0;
  }
  for (int64_t p = 0; p < k; ++p) {
    const double pivot = a[p][p];
    for (double& v : a[p]) v /= pivot;
    for (int64_t i = 0; i < k; ++i) {
      const double factor = a[i][p];
      if (i == p || factor == 0.0) continue;
      for (int64_t j = 0; j < 2 * k; ++j) a[i][j] -= factor * a[p][j];
    }
  }
  std::vector<std::vector<double>> inv(k, std::vector<double>(k));
  for (int64_t i = 0; i < k; ++i) {
    for (int64_t j = 0; j < k; ++j) inv[i][j] = a[i][k + j];
  }
  std::vector<std::vector<double>> rows(w.rows, std::vector<double>(k));
  for (int64_t n = 0; n < w.rows; ++n) {
    for (int64_t i = 0; i < k; ++i) rows[n][i] = w.row(n)[order[i]];
  }
  for (int64_t i = 0; i < k; ++i) {
    for (int64_t n = 0; n < w.rows; ++n) {
      const Levels levels = grid.levels(n, order[i] / 128);
      const float code = nearest_code(levels, static_cast<float>(rows[n][i]));
      codes[n * k + order[i]] = static_cast<int8_t>(code);
      const double error = (rows[n][i] - level_value(levels, code)) / inv[i][i];
      for (int64_t j = i; j < k; ++j) rows[n][j] -= error * inv[i][j];
    }
    // Remove column i from the inverse (Gaussian elimination; Frantar, eq. 3).
    for (int64_t p = i + 1; p < k; ++p) {
      const double factor = inv[p][i] / inv[i][i];
      for (int64_t q = i; q < k; ++q) inv[p][q] -= factor * inv[i][q];
    }
  }
  return codes;
}

TEST(Gptq, GivesTheCodesOfTheRunningUpdate) {
  const auto runtime = Runtime::cpu(detect_cpu_isa(), 1);
  Context& ctx = runtime->context();
  const SymmetricMatrix h = correlated_hessian(256, 500);
  const Matrix w = random_matrix(5, 256, 6);
  const WeightGrid grid = choose_grid(ctx.pool, w, {Granularity::kGroup, DType::kF16}, true, {});
  const auto factor = factor_hessian(ctx, h, 0.01, "site");
  ASSERT_TRUE(factor.ok());
  for (size_t i = 1; i < factor->order.size(); ++i) {
    EXPECT_GE(h.at(factor->order[i - 1], factor->order[i - 1]),
              h.at(factor->order[i], factor->order[i]));
  }
  std::vector<int8_t> codes(w.values.size());
  code_with_feedback(ctx, w, grid, *factor, codes);
  const std::vector<int8_t> want = textbook_gptq(w, h, grid, factor->order, 0.01);
  int64_t num_different = 0;
  for (size_t i = 0; i < codes.size(); ++i) num_different += codes[i] != want[i] ? 1 : 0;
  EXPECT_LE(num_different, 5);  // FP32 against FP64 at rounding ties, and what follows from one
}

TEST(Gptq, SameForAnyNumberOfThreads) {
  const SymmetricMatrix h = correlated_hessian(384, 400);
  const Matrix w = random_matrix(1030, 384, 7);  // more than a step of rows
  const auto one = Runtime::cpu(detect_cpu_isa(), 1);
  const auto two = Runtime::cpu(detect_cpu_isa(), 2);
  HostHessian of_one(one->context(), h);
  HostHessian of_two(two->context(), h);
  const auto a = weight_methods()[2].quantize(one->context(),
                                              {"w", w, Granularity::kProgressive, {}, &of_one});
  const auto b = weight_methods()[2].quantize(two->context(),
                                              {"w", w, Granularity::kProgressive, {}, &of_two});
  EXPECT_EQ(a->codes, b->codes);
  EXPECT_EQ(a->grid.channel_scale, b->grid.channel_scale);
}

TEST(Gptq, SingularHessiansAreDamped) {
  const auto runtime = Runtime::cpu(detect_cpu_isa(), 1);
  Context& ctx = runtime->context();
  const Matrix w = random_matrix(3, 128, 8);
  const SymmetricMatrix few_rows = correlated_hessian(128, 5);
  EXPECT_TRUE(factor_hessian(ctx, few_rows, 0.01, "s").ok());
  EXPECT_TRUE(factor_hessian(ctx, SymmetricMatrix(128), 0.01, "s").ok());
  SymmetricMatrix broken = few_rows;
  broken.at(3, 3) = std::nan("");
  const auto result = factor_hessian(ctx, broken, 0.01, "the site");
  ASSERT_FALSE(result.ok());
  EXPECT_NE(result.error().message.find("the site"), std::string::npos);
}

TEST(Hessian, IsTheSumOverQuantizedRowsHoweverTheyCome) {
  auto runtime = Runtime::cpu(detect_cpu_isa(), 2);
  Context& ctx = runtime->context();
  const formats::SiteLayout layout{"site", 128, 128, 0, 0.9F, formats::ActScale::kS2h, {}};
  const Matrix rows = random_matrix(2100, 128, 21);  // more than one chunk
  HessianAccumulator whole(layout);
  HessianAccumulator pieces(layout);
  whole.add(ctx, rows.view());
  for (int64_t t = 0; t < rows.rows; t += 300) pieces.add(ctx, {rows.row(t), {300, 128}});
  const SymmetricMatrix sum = whole.finish(ctx);
  EXPECT_EQ(sum.values, pieces.finish(ctx).values);
  const Matrix x = quantized_rows(ctx.pool, layout, stored_rows(ctx.pool, layout, rows.view()));
  for (int64_t i = 0; i < 128; ++i) {
    for (int64_t j = 0; j <= i; ++j) {
      double want = 0.0;
      for (int64_t t = 0; t < x.rows; ++t) want += static_cast<double>(x.row(t)[i]) * x.row(t)[j];
      EXPECT_NEAR(sum.at(i, j), want, 0.02);
    }
  }
}

TEST(Cholesky, ReproducesTheMatrix) {
  const auto runtime = Runtime::cpu(detect_cpu_isa(), 2);
  Context& ctx = runtime->context();
  for (const int64_t n : {1, 5, 64, 65, 200, 256, 257, 600}) {
    const SymmetricMatrix h = correlated_hessian(n, n + 50);
    SymmetricMatrix l = h;
    ASSERT_TRUE(cholesky(ctx, l));
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j <= i; ++j) {
        double sum = 0.0;
        for (int64_t p = 0; p <= j; ++p) sum += l.at(i, p) * l.at(j, p);
        // FP64 within the first panel; behind it each panel's sum of products is FP32.
        EXPECT_NEAR(sum, h.at(i, j), (n <= 256 ? 1e-12 : 1e-6) * h.at(0, 0));
      }
    }
  }
  SymmetricMatrix negative(2);
  negative.at(0, 0) = 1.0;
  negative.at(1, 1) = -1.0;
  EXPECT_FALSE(cholesky(ctx, negative));
}

}  // namespace
}  // namespace comet::quant
