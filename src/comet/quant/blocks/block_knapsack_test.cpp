#include "comet/quant/blocks/block_knapsack.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "comet/base/rng.h"
#include "comet/quant/blocks/block_plan.h"

namespace comet::quant {
namespace {

double loss_of(const std::vector<BlockCurve>& curves, const std::vector<int64_t>& blocks) {
  double total = 0.0;
  for (size_t i = 0; i < curves.size(); ++i) total += curves[i].losses[blocks[i]];
  return total;
}

int64_t work_of(const std::vector<BlockCurve>& curves, const std::vector<int64_t>& blocks) {
  int64_t total = 0;
  for (size_t i = 0; i < curves.size(); ++i) total += curves[i].block_work * blocks[i];
  return total;
}

/// The least loss at each amount of work up to `budget`, by dynamic programming over the sites.
double exact_least_loss(const std::vector<BlockCurve>& curves, int64_t budget) {
  std::vector<double> least(budget + 1, 0.0);
  for (const BlockCurve& curve : curves) {
    std::vector<double> next(budget + 1, std::numeric_limits<double>::infinity());
    for (int64_t spent = 0; spent <= budget; ++spent) {
      for (size_t n = 0; n < curve.losses.size(); ++n) {
        const int64_t work = static_cast<int64_t>(n) * curve.block_work;
        if (work > spent) break;
        next[spent] = std::min(next[spent], least[spent - work] + curve.losses[n]);
      }
    }
    least = next;
  }
  return least[budget];
}

/// Falling curves; convex ones too when `convex`, so that every hull step is one block.
std::vector<BlockCurve> random_curves(Rng& rng, bool convex) {
  std::vector<BlockCurve> curves(2 + rng.next_below(4));
  for (BlockCurve& curve : curves) {
    curve.block_work = 1 + static_cast<int64_t>(rng.next_below(4));
    std::vector<double> savings(1 + rng.next_below(6));
    for (double& saving : savings) saving = rng.next_uniform();
    if (convex) std::sort(savings.rbegin(), savings.rend());
    curve.losses.assign(1, std::accumulate(savings.begin(), savings.end(), 0.0));
    for (const double saving : savings) curve.losses.push_back(curve.losses.back() - saving);
  }
  return curves;
}

double largest_saving(const std::vector<BlockCurve>& curves) {
  double largest = 0.0;
  for (const BlockCurve& curve : curves) {
    largest = std::max(largest, curve.losses.front() - curve.losses.back());
  }
  return largest;
}

TEST(BlockKnapsack, KeepsTheBudgetAndStaysCloseToTheOptimum) {
  Rng rng(7);
  for (int trial = 0; trial < 300; ++trial) {
    const bool convex = trial % 2 == 0;
    const std::vector<BlockCurve> curves = random_curves(rng, convex);
    int64_t all_work = 0;
    for (const auto& c : curves) {
      all_work += c.block_work * (static_cast<int64_t>(c.losses.size()) - 1);
    }
    const auto budget = static_cast<int64_t>(rng.next_below(all_work + 1));
    const std::vector<int64_t> chosen = choose_blocks(curves, budget);
    EXPECT_LE(work_of(curves, chosen), budget);
    const double exact = exact_least_loss(curves, budget);
    const double slack = convex ? 1.0 : largest_saving(curves);  // a step of a convex curve is < 1
    EXPECT_GE(loss_of(curves, chosen), exact - 1e-9);
    EXPECT_LE(loss_of(curves, chosen), exact + slack);
  }
}

TEST(BlockKnapsack, ExactWhereBlocksCostTheSameAndCurvesAreConvex) {
  Rng rng(8);
  for (int trial = 0; trial < 200; ++trial) {
    std::vector<BlockCurve> curves = random_curves(rng, true);
    for (BlockCurve& curve : curves) curve.block_work = 1;
    const auto budget = static_cast<int64_t>(rng.next_below(8));
    EXPECT_NEAR(loss_of(curves, choose_blocks(curves, budget)), exact_least_loss(curves, budget),
                1e-9);
  }
}

TEST(BlockKnapsack, TakesAWholeStepWhereOneBlockAloneGainsNothing) {
  // The first block of site 0 saves nothing, both together save most per work.
  const std::vector<BlockCurve> curves{{{9.0, 9.0, 1.0}, 1}, {{3.0, 1.0}, 1}};
  EXPECT_EQ(choose_blocks(curves, 2), (std::vector<int64_t>{2, 0}));
  EXPECT_EQ(choose_blocks(curves, 3), (std::vector<int64_t>{2, 1}));
}

TEST(BlockKnapsack, TiesGoToTheEarlierSiteAndRisingCurvesCountAsFlat) {
  const std::vector<BlockCurve> equal{{{1.0, 0.0}, 2}, {{1.0, 0.0}, 2}};
  EXPECT_EQ(choose_blocks(equal, 2), (std::vector<int64_t>{1, 0}));
  const std::vector<BlockCurve> rising{{{1.0, 5.0, 6.0}, 1}, {{1.0, 0.5}, 1}};
  EXPECT_EQ(choose_blocks(rising, 1), (std::vector<int64_t>{0, 1}));
  EXPECT_EQ(choose_blocks(rising, 3), (std::vector<int64_t>{2, 1}));  // the budget is used up
  EXPECT_EQ(choose_blocks(rising, 0), (std::vector<int64_t>{0, 0}));
}

TEST(BlockKnapsack, ASiteWithoutBlocksAndNoSitesAtAll) {
  EXPECT_EQ(choose_blocks(std::vector<BlockCurve>{{{2.0}, 5}}, 100), std::vector<int64_t>{0});
  EXPECT_TRUE(choose_blocks({}, 10).empty());
}

}  // namespace
}  // namespace comet::quant
