#include "comet/quant/fmpq/site_stats.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "comet/base/rng.h"

namespace comet::quant {
namespace {

Matrix random_rows(int64_t rows, int64_t cols, uint64_t seed) {
  Matrix m(rows, cols);
  Rng rng(seed);
  for (float& x : m.values) x = rng.next_normal();
  return m;
}

View<const float, 2> part(const Matrix& m, int64_t begin, int64_t end) {
  return {m.row(begin), {end - begin, m.cols}};
}

SiteStats collect(const Matrix& rows, int64_t expected, int64_t chunk, int num_threads) {
  ThreadPool pool(num_threads);
  SiteStatsAccumulator accumulator("site", rows.cols, expected, 10);
  for (int64_t begin = 0; begin < rows.rows; begin += chunk) {
    EXPECT_TRUE(accumulator.add(pool, part(rows, begin, std::min(begin + chunk, rows.rows))).ok());
  }
  return accumulator.finish();
}

TEST(SiteStats, QuantileEqualsSorting) {
  for (const int64_t n : {1, 2, 999, 1000, 1001, 3500}) {
    const Matrix rows = random_rows(n, 70, static_cast<uint64_t>(n));
    const SiteStats stats = collect(rows, n, 257, 1);
    for (int64_t c = 0; c < rows.cols; ++c) {
      std::vector<float> sorted;
      double squares = 0.0;
      for (int64_t t = 0; t < n; ++t) {
        sorted.push_back(std::fabs(rows.row(t)[c]));
        squares += static_cast<double>(rows.row(t)[c]) * rows.row(t)[c];
      }
      std::sort(sorted.begin(), sorted.end());
      const auto rank = static_cast<int64_t>(std::ceil(0.999 * static_cast<double>(n) - 1e-9));
      EXPECT_EQ(stats.p999[c], sorted[rank - 1]) << n << " tokens, channel " << c;
      EXPECT_EQ(stats.absmax[c], sorted.back());
      EXPECT_DOUBLE_EQ(stats.sum_squares[c], squares);
    }
  }
}

TEST(SiteStats, FewerTokensThanExpected) {
  const Matrix rows = random_rows(900, 3, 5);
  EXPECT_EQ(collect(rows, 5000, 100, 1).p999, collect(rows, 900, 900, 1).p999);
}

TEST(SiteStats, SameForAnyChunksAndThreads) {
  const Matrix rows = random_rows(2000, 130, 1);
  const SiteStats a = collect(rows, 2000, 2000, 1);
  const SiteStats b = collect(rows, 2000, 37, 2);
  EXPECT_EQ(a.p999, b.p999);
  EXPECT_EQ(a.sum_squares, b.sum_squares);
  EXPECT_EQ(a.kept_rows.values, b.kept_rows.values);
  EXPECT_EQ(a.kept_rows.rows, 10);
  EXPECT_TRUE(std::equal(rows.row(199), rows.row(200), a.kept_rows.row(0)));
}

TEST(SiteStats, ZeroChannel) {
  const Matrix rows(1500, 2);
  const SiteStats stats = collect(rows, 1500, 500, 1);
  EXPECT_EQ(stats.p999[1], 0.0F);
  EXPECT_EQ(stats.absmax[1], 0.0F);
}

TEST(SiteStats, NonFiniteNamesTheSite) {
  ThreadPool pool(2);
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    Matrix rows = random_rows(4, 200, 2);
    rows.row(2)[150] = bad;
    SiteStatsAccumulator accumulator("model.layers.3.mlp.down_in", 200, 4, 4);
    const Status status = accumulator.add(pool, rows.view());
    ASSERT_FALSE(status.ok());
    EXPECT_NE(status.error().message.find("model.layers.3.mlp.down_in"), std::string::npos);
  }
}

TEST(SiteStats, ScaleWithTheirChannels) {
  SiteStats stats;
  stats.absmax = {3.0F, 5.0F};
  stats.p999 = {2.5F, 4.0F};
  stats.sum_squares = {7.0, 64.0};
  stats.kept_rows = Matrix(1, 2);
  stats.kept_rows.values = {1.5F, -4.0F};
  scale_stats(stats, std::vector<float>{1.0F, 4.0F});
  EXPECT_EQ(stats.absmax, (std::vector<float>{3.0F, 1.25F}));
  EXPECT_EQ(stats.p999, (std::vector<float>{2.5F, 1.0F}));
  EXPECT_EQ(stats.sum_squares, (std::vector<double>{7.0, 4.0}));
  EXPECT_EQ(stats.kept_rows.values, (std::vector<float>{1.5F, -1.0F}));
}

}  // namespace
}  // namespace comet::quant
