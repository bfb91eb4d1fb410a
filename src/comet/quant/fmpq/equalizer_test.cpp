#include "comet/quant/fmpq/equalizer.h"

#include <gtest/gtest.h>

namespace comet::quant {
namespace {

TEST(Equalizer, Median) {
  EXPECT_EQ(median({}), 0.0F);
  EXPECT_EQ(median({3.0F}), 3.0F);
  EXPECT_EQ(median({4.0F, 1.0F}), 2.5F);
  EXPECT_EQ(median({5.0F, 1.0F, 2.0F}), 2.0F);
}

TEST(Equalizer, OnlyLargeActivationsWithSmallColumnsMove) {
  const std::vector<float> p999{1, 1, 1, 1, 8, 8, 1, 3.3F, 3.4F};
  const std::vector<float> norm{1, 1, 1, 1, 0.125F, 1, 0.1F, 0.1F, 0.1F};
  const std::vector<int> exponents = equalizer_exponents(p999, norm);
  // 8: both say 8 -> 3; large with an ordinary column, small column alone -> 0;
  // log2 3.3 + 1/4 = 1.97 -> 1; log2 3.4 + 1/4 = 2.02 -> 2.
  EXPECT_EQ(exponents, (std::vector<int>{0, 0, 0, 0, 3, 0, 0, 1, 2}));
}

TEST(Equalizer, ZeroColumnsAndZeroSites) {
  const std::vector<float> ones(5, 1.0F);
  const std::vector<float> zeros(5, 0.0F);
  EXPECT_EQ(equalizer_exponents(zeros, ones), std::vector<int>(5, 0));
  EXPECT_EQ(equalizer_exponents(ones, zeros), std::vector<int>(5, 0));
  EXPECT_EQ(
      equalizer_exponents(std::vector<float>{1, 1, 1, 1, 4}, std::vector<float>{1, 1, 1, 1, 0}),
      (std::vector<int>{0, 0, 0, 0, 2}));
}

TEST(Equalizer, PowersOfTwo) {
  EXPECT_EQ(powers_of_two(std::vector<int>{0, 2, -1}), (std::vector<float>{1.0F, 4.0F, 0.5F}));
}

TEST(Equalizer, ColumnNorms) {
  Matrix w(2, 2);
  w.values = {3.0F, 0.0F, 4.0F, -2.0F};
  EXPECT_EQ(column_norms(w), (std::vector<float>{5.0F, 2.0F}));
}

}  // namespace
}  // namespace comet::quant
