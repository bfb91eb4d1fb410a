// How a product of gemm_sm90_split.h is cut: a model gives every cut a time, and the shortest wins.
// Builds without CUDA (gemm_sm90_split_plan_test.cpp).
#include "comet/formats/w4ax/cuda/split/gemm_sm90_split.h"

#include <algorithm>

#include "comet/base/check.h"
#include "comet/formats/w4ax/cuda/gemm_sm90_costs.h"

namespace comet::formats::w4ax::cuda {
namespace {

constexpr int64_t kLevelBytes = 256;  // of a block of a packed tile, of progressive weights
constexpr int32_t kAlone = 0;         // instead of teams

/// What a CTA takes for a block of 128 channels, beside none, one or two more on its SM, for the
/// end of a tile, and for a part of a tile that is joined; µs. Of the last two: channel weights in
/// two segments, progressive ones.
struct SplitCost {
  int32_t tokens;
  int32_t teams;  // kAlone: half tiles, alone on an SM
  double channel_us[3];
  double progressive_us[3];
  double end_us[2];
  double part_us[2];
};

/// Fitted to one H200, the short times for the most part: what is alone to
/// bench/results/h200/2026-11-27-w4ax-sm90-split-plans.json, the rest to a run of two days before.
constexpr SplitCost kCosts[] = {
    {16, 1, {0.206, 0.438, 0.596}, {0.257, 0.594, 0.713}, {2.38, 2.40}, {0.167, 0.147}},
    {16, 2, {0.165, 0.324, 0.324}, {0.209, 0.499, 0.499}, {3.44, 2.09}, {0.435, 0.357}},
    {32, 1, {0.196, 0.327, 0.327}, {0.252, 0.506, 0.506}, {3.42, 2.57}, {0.108, 0.090}},
    {64, 1, {0.370, 0.524, 0.524}, {0.344, 0.587, 0.587}, {4.40, 3.05}, {0.064, 0.163}},
    {16, kAlone, {0.095}, {0.105}, {1.40, 1.30}, {0.70, 0.70}},
    {32, kAlone, {0.100}, {0.120}, {1.70, 1.10}, {0.70, 0.90}},
    {64, kAlone, {0.120}, {0.140}, {2.40, 1.70}, {0.50, 0.70}},
};

const SplitCost& cost_of(const SplitPlan& plan) {
  const auto* cost = std::ranges::find_if(kCosts, [&](const SplitCost& tile) {
    if (tile.tokens != plan.tile_tokens) return false;
    return plan.is_alone ? tile.teams == kAlone
                         : tile.teams == plan.num_teams && plan.tile_rows == 128;
  });
  COMET_CHECK(cost != std::end(kCosts), "no tile of {} x {} tokens by {} teams{}", plan.tile_rows,
              plan.tile_tokens, plan.num_teams, plan.is_alone ? ", alone" : "");
  return *cost;
}

int ctas_per_sm(const SplitPlan& plan) {
  return plan.is_alone ? 1 : split_ctas_per_sm(plan.tile_rows, plan.tile_tokens, plan.num_teams);
}

}  // namespace

double time_gemm_split_us(const GemmArgs& args, const SplitPlan& plan, int num_sms) {
  const SplitCost& cost = cost_of(plan);
  const bool has_levels = args.kind == WeightKind::kProgressive;
  const double* block_us = has_levels ? cost.progressive_us : cost.channel_us;
  const int64_t fit = ctas_per_sm(plan);
  const int64_t tiles = int64_t{args.num_tiles} * 128 / plan.tile_rows;
  const int64_t resident = clusters_that_fit(ctas_per_sm(plan), plan.num_splits, num_sms);
  const int64_t rounds = divide_up(tiles, resident);
  const auto blocks = static_cast<double>(divide_up(args.blocks, plan.num_splits));
  // The last round may leave SMs to fewer CTAs, which then run faster. The next launch comes in
  // while this one runs, so that from half as many CTAs as SMs on some SMs get one more.
  const auto round_us = [&](int64_t count) {
    const int64_t beyond = std::max<int64_t>(0, count * plan.num_splits - num_sms / 2);
    const int64_t of_sm = std::min(fit, 1 + divide_up(beyond, num_sms));
    return blocks * block_us[of_sm - 1] + cost.end_us[has_levels ? 1 : 0];
  };
  const double products_us = static_cast<double>(rounds - 1) * round_us(resident) +
                             round_us(tiles - (rounds - 1) * resident);
  const int64_t bytes =
      int64_t{args.num_tiles} * args.blocks * (kPackedBytes + (has_levels ? kLevelBytes : 0));
  const double copies_us = static_cast<double>(bytes) / kBytesPerUs;
  const double joins_us =
      plan.num_splits == 1 ? 0.0 : cost.part_us[has_levels ? 1 : 0] * plan.num_splits;
  return kLaunchUs + std::max(products_us, copies_us) +
         kHiddenShare * std::min(products_us, copies_us) + joins_us;
}

SplitPlan plan_gemm_split(const GemmArgs& args, int num_sms) {
  SplitPlan best;
  double best_us = 0;
  for (const SplitCost& tile : kCosts) {
    if (tile.tokens > 2 * std::max(args.tokens, 16)) continue;
    for (int32_t splits = 1; splits <= kMaxSplits; ++splits) {
      SplitPlan plan{tile.tokens, tile.teams, splits};
      if (tile.teams == kAlone) plan = split_alone_plan(args, tile.tokens, splits);
      if (!split_suits(args, plan)) continue;
      const double us = time_gemm_split_us(args, plan, num_sms);
      if (best_us == 0 || us < best_us) {
        best = plan;
        best_us = us;
      }
    }
  }
  return best;
}

}  // namespace comet::formats::w4ax::cuda
