#include "comet/quant/fmpq/permutation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "comet/base/rng.h"
#include "comet/quant/fmpq/activation_rows.h"
#include "comet/quant/fmpq/rotation.h"

namespace comet::quant {
namespace {

using formats::ActScale;
using formats::SiteLayout;

std::vector<float> random_magnitudes(int64_t k, uint64_t seed) {
  std::vector<float> values(k);
  Rng rng(seed);
  for (float& v : values) v = std::fabs(rng.next_normal());
  return values;
}

Matrix random_matrix(int64_t rows, int64_t cols, uint64_t seed) {
  Matrix m(rows, cols);
  Rng rng(seed);
  for (float& x : m.values) x = rng.next_normal();
  return m;
}

TEST(Permutation, TiesGoByChannelIndex) {
  EXPECT_EQ(ascending_order(std::vector<float>{2, 1, 2, 1, 0}),
            (std::vector<int32_t>{4, 1, 3, 0, 2}));
}

TEST(Permutation, SortedOrderWithPadding) {
  std::vector<float> p999(300);
  for (int i = 0; i < 300; ++i) p999[i] = static_cast<float>(300 - i);
  const SiteLayout layout = make_site_layout("s", p999, 1, ActScale::kS2, true);
  ASSERT_EQ(layout.k_padded, 384);
  ASSERT_EQ(layout.int4_channels(), 256);
  for (int j = 0; j < 172; ++j) EXPECT_EQ(layout.perm[j], 299 - j);
  for (int j = 172; j < 256; ++j) EXPECT_EQ(layout.perm[j], -1);
  for (int j = 256; j < 384; ++j) EXPECT_EQ(layout.perm[j], 299 - (j - 84));
}

TEST(Permutation, DealingOfS2h) {
  std::vector<float> p999(512);
  std::iota(p999.begin(), p999.end(), 0.0F);
  const SiteLayout layout = make_site_layout("s", p999, 1, ActScale::kS2h, true);
  for (int p = 0; p < 384; ++p) EXPECT_EQ(layout.perm[p % 3 * 128 + p / 3], p);
  for (int j = 384; j < 512; ++j) EXPECT_EQ(layout.perm[j], j);
}

TEST(Permutation, EveryChannelOnceForAllShapes) {
  for (const int64_t k : {1, 127, 128, 129, 300, 384, 1000}) {
    const std::vector<float> p999 = random_magnitudes(k, static_cast<uint64_t>(k));
    for (int64_t int8_blocks = 0; int8_blocks <= (k + 127) / 128; ++int8_blocks) {
      for (const ActScale scale : {ActScale::kS1, ActScale::kS2, ActScale::kS2h}) {
        const SiteLayout layout = make_site_layout("s", p999, int8_blocks, scale, true);
        if (layout.perm.empty()) continue;
        std::vector<int> seen(k, 0);
        int64_t last_int4 = -1;
        for (int64_t j = 0; j < layout.k_padded; ++j) {
          if (layout.perm[j] >= 0) ++seen[layout.perm[j]];
          if (layout.perm[j] >= 0 && j < layout.int4_channels()) last_int4 = j;
        }
        EXPECT_EQ(std::count(seen.begin(), seen.end(), 1), k);
        for (int64_t j = 0; j < last_int4; ++j) EXPECT_GE(layout.perm[j], 0);
      }
    }
  }
}

TEST(Permutation, AllInt8KeepsTheModelsOrder) {
  const std::vector<float> p999 = random_magnitudes(256, 3);
  EXPECT_TRUE(make_site_layout("s", p999, 2, ActScale::kS2, true).perm.empty());
  EXPECT_TRUE(make_site_layout("s", p999, 0, ActScale::kS2, false).perm.empty());
}

TEST(Permutation, AbsorbedOrderLeavesOnlyPadding) {
  SiteLayout layout = make_site_layout("s", random_magnitudes(300, 1), 1, ActScale::kS2h, true);
  const SiteLayout before = layout;
  const std::vector<int32_t> order = absorb_order(layout);
  ASSERT_EQ(order.size(), 300U);
  for (int64_t j = 0; j < layout.k_padded; ++j) {
    const int32_t source = layout.perm[j] < 0 ? -1 : order[layout.perm[j]];
    EXPECT_EQ(source, before.perm[j]);
  }
  SiteLayout whole = make_site_layout("s", random_magnitudes(384, 1), 1, ActScale::kS2h, true);
  EXPECT_EQ(absorb_order(whole).size(), 384U);
  EXPECT_TRUE(whole.perm.empty());
}

TEST(Permutation, RowsAndBias) {
  Matrix w(4, 1);
  w.values = {0, 10, 20, 30};
  std::vector<float> bias{0, 1, 2, 3};
  permute_rows(w, bias, 1, std::vector<int32_t>{2, 0, 1});
  EXPECT_EQ(w.values, (std::vector<float>{0, 30, 10, 20}));
  EXPECT_EQ(bias, (std::vector<float>{0, 3, 1, 2}));
}

TEST(Permutation, PlanReachesTheShare) {
  const std::vector<SiteShape> sites{{640, 384}, {384, 384}, {2048, 384}, {384, 1024}};
  int64_t all = 0;
  for (const SiteShape& s : sites) all += s.rows * s.num_blocks();
  for (const double share : {0.0, 0.1, 0.28, 0.5, 0.99, 1.0}) {
    const auto blocks = plan_int8_blocks(sites, share);
    ASSERT_TRUE(blocks.ok());
    int64_t work = 0;
    for (size_t i = 0; i < sites.size(); ++i) {
      EXPECT_LE((*blocks)[i], sites[i].num_blocks());
      work += sites[i].rows * (*blocks)[i];
    }
    EXPECT_GE(static_cast<double>(work), share * static_cast<double>(all) - 1e-6);
    EXPECT_LE(static_cast<double>(work), share * static_cast<double>(all) + 2048.0);
  }
  for (const double share : {-0.1, 1.1, std::numeric_limits<double>::quiet_NaN()}) {
    EXPECT_FALSE(plan_int8_blocks(sites, share).ok());
  }
}

/// x·Wᵀ in the model's order against the stored, padded, rotated product.
TEST(Permutation, StoredRotatedProductEqualsTheOriginal) {
  ThreadPool pool(2);
  for (const int64_t k : {384, 300}) {
    const Matrix x = random_matrix(5, k, 1);
    const Matrix w = random_matrix(7, k, 2);
    const SiteLayout layout =
        make_site_layout("s", random_magnitudes(k, 4), 1, ActScale::kS2h, true);
    const Matrix stored_x = stored_rows(pool, layout, x.view());
    Matrix stored_w = stored_columns(pool, w, layout);
    rotate_int4_blocks(pool, stored_w, layout);
    for (int64_t t = 0; t < x.rows; ++t) {
      for (int64_t n = 0; n < w.rows; ++n) {
        double want = 0.0;
        double got = 0.0;
        for (int64_t c = 0; c < k; ++c) want += static_cast<double>(x.row(t)[c]) * w.row(n)[c];
        for (int64_t c = 0; c < layout.k_padded; ++c) {
          got += static_cast<double>(stored_x.row(t)[c]) * stored_w.row(n)[c];
        }
        EXPECT_NEAR(got, want, 1e-5 * std::sqrt(static_cast<double>(k)));
      }
    }
  }
}

TEST(Rotation, IsSylvesterAndItsOwnInverse) {
  for (const int64_t n : {2, 8, 128}) {
    std::vector<float> x(n, 0.0F);
    x[n - 1] = 1.0F;  // last column: sign is the parity of the row index
    hadamard(x.data(), n);
    for (int64_t i = 0; i < n; ++i) {
      const float sign = __builtin_popcountll(static_cast<uint64_t>(i)) % 2 == 0 ? 1.0F : -1.0F;
      EXPECT_FLOAT_EQ(x[i], sign / std::sqrt(static_cast<float>(n)));
    }
    hadamard(x.data(), n);
    EXPECT_NEAR(x[n - 1], 1.0F, 1e-6F);
    EXPECT_NEAR(x[0], 0.0F, 1e-6F);
  }
}

}  // namespace
}  // namespace comet::quant
