#include "comet/quant/smooth/smoothing.h"

#include <gtest/gtest.h>

#include <cmath>

#include "comet/quant/matrix_product.h"
#include "support/tiny_llama.h"

namespace comet::quant {
namespace {

TEST(Smoothing, FactorsFollowTheFormula) {
  const std::vector<float> a{4.0F, 1.0F, 100.0F};
  const std::vector<float> w{0.25F, 1.0F, 0.01F};
  for (const double alpha : {0.0, 0.5, 0.8, 1.0}) {
    const std::vector<float> s = smoothing_factors(a, w, alpha);
    for (size_t c = 0; c < a.size(); ++c) {
      EXPECT_NEAR(s[c], std::pow(a[c], alpha) / std::pow(w[c], 1.0 - alpha), 1e-4 * s[c]);
    }
  }
}

TEST(Smoothing, ChannelsAndColumnsOfZeros) {
  const std::vector<float> s = smoothing_factors(std::vector<float>{0.0F, 4.0F, 4.0F},
                                                 std::vector<float>{1.0F, 0.0F, 0.25F}, 0.5);
  EXPECT_EQ(s[0], 1.0F);
  EXPECT_EQ(s[1], 4.0F);  // as if its column were 0.25
  EXPECT_EQ(s[2], 4.0F);
  const std::vector<float> none(2, 0.0F);
  EXPECT_EQ(smoothing_factors(std::vector<float>(2, 3.0F), none, 0.5), std::vector<float>(2, 1.0F));
  EXPECT_EQ(smoothing_factors(std::vector<float>{1e30F}, std::vector<float>{1e-30F}, 0.5)[0],
            0x1p16F);
}

TEST(Smoothing, ColumnAbsmax) {
  Matrix w(2, 2);
  w.values = {3.0F, 0.0F, -4.0F, -2.0F};
  EXPECT_EQ(column_absmax(w), (std::vector<float>{4.0F, 2.0F}));
}

class SmoothingSearchTest : public ::testing::Test {
 protected:
  std::optional<double> search() {
    const std::vector<int64_t> parts{40, 24};
    const std::vector<float> absmax = column_absmax(x_);
    const std::vector<float> columns = column_absmax(weight_);
    return search_smoothing(runtime_->context(), {x_, weight_, parts, [&](double alpha) {
                                                    return smoothing_factors(absmax, columns,
                                                                             alpha);
                                                  }});
  }

  std::unique_ptr<Runtime> runtime_ = Runtime::cpu(detect_cpu_isa(), 2);
  Matrix x_ = testing::random_matrix(300, 96, 1);
  Matrix weight_ = testing::random_matrix(64, 96, 2, 0.1F);
};

TEST_F(SmoothingSearchTest, LargeChannelsOfSmallColumnsAreSmoothed) {
  for (int64_t c = 0; c < 96; c += 12) {
    for (int64_t t = 0; t < x_.rows; ++t) x_.row(t)[c] *= 30.0F;
    for (int64_t n = 0; n < weight_.rows; ++n) weight_.row(n)[c] /= 30.0F;
  }
  EXPECT_TRUE(search().has_value());
}

TEST_F(SmoothingSearchTest, WhatGainsNothingIsLeftAlone) {
  // Activations of ±1 and weights of whole 127ths are exact as they are.
  for (int64_t t = 0; t < x_.rows; ++t) {
    for (int64_t c = 0; c < 96; ++c) x_.row(t)[c] = (t + c) % 2 == 0 ? 1.0F : -1.0F;
  }
  for (int64_t n = 0; n < weight_.rows; ++n) {
    for (int64_t c = 0; c < 96; ++c) {
      weight_.row(n)[c] = static_cast<float>((c + n) % 96 == 0 ? 127 : (7 * c + 5 * n) % 100);
    }
  }
  EXPECT_EQ(search(), std::nullopt);
  x_ = Matrix(0, 96);
  EXPECT_EQ(search(), std::nullopt);
}

}  // namespace
}  // namespace comet::quant
