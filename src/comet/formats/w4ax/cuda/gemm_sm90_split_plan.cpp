// How a product of gemm_sm90_split.h is cut: a model gives every cut a time, and the shortest wins.
// Builds without CUDA (gemm_sm90_split_plan_test.cpp).
#include "comet/formats/w4ax/cuda/gemm_sm90_split.h"

#include <algorithm>

#include "comet/base/check.h"

namespace comet::formats::w4ax::cuda {
namespace {

constexpr int64_t kPackedBytes = 8192;  // of a block of a packed tile
constexpr int64_t kLevelBytes = 256;    // beside it, of progressive weights
constexpr int64_t kGpcSms = 16;         // of the smallest: CTAs of a cluster share one

/// What a CTA takes for a block of 128 channels, beside none, one or two more on its SM, and for
/// the end of a tile; µs.
struct SplitCost {
  int32_t tokens;
  int32_t pairs;
  double channel_us[3];
  double progressive_us[3];
  double end_us;
};

/// Estimates, not measured: docs/kernels/w4ax_sm90.md.
constexpr SplitCost kCosts[] = {
    {16, 1, {0.20, 0.25, 0.37}, {0.27, 0.33, 0.48}, 0.3},
    {16, 2, {0.12, 0.24, 0.24}, {0.16, 0.31, 0.31}, 0.3},
    {32, 1, {0.21, 0.30, 0.30}, {0.28, 0.40, 0.40}, 0.4},
    {64, 1, {0.24, 0.40, 0.40}, {0.31, 0.54, 0.54}, 0.6},
};

constexpr double kLaunchUs = 1.1;
constexpr double kBytesPerUs = 4.1e6;  // from memory
constexpr double kHiddenShare = 0.05;  // of the shorter of copies and products, what still shows
constexpr double kJoinUs = 0.4;        // of a cluster
constexpr double kJoinPartUs = 0.02;   // of a part of a tile

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

bool has_two_segments(const GemmArgs& args) {
  return args.int4_blocks > 0 && args.int4_blocks < args.blocks;
}

const SplitCost& cost_of(const SplitPlan& plan) {
  const auto* cost = std::ranges::find_if(kCosts, [&](const SplitCost& tile) {
    return tile.tokens == plan.tile_tokens && tile.pairs == plan.num_pairs;
  });
  COMET_CHECK(cost != std::end(kCosts), "no tile of {} tokens by {} pairs", plan.tile_tokens,
              plan.num_pairs);
  return *cost;
}

/// Tiles that the card works on at once.
int64_t resident_tiles(const SplitPlan& plan, int64_t num_sms) {
  const int64_t fit = split_ctas_per_sm(plan.tile_tokens, plan.num_pairs);
  if (plan.num_splits == 1) return num_sms * fit;
  const int64_t of_gpc = std::min(num_sms, kGpcSms) * fit / plan.num_splits;
  return std::max<int64_t>(1, of_gpc * std::max<int64_t>(1, num_sms / kGpcSms));
}

}  // namespace

double time_gemm_split_us(const GemmArgs& args, const SplitPlan& plan, int num_sms) {
  const SplitCost& cost = cost_of(plan);
  const bool has_levels = args.kind == WeightKind::kProgressive;
  const double* block_us = has_levels ? cost.progressive_us : cost.channel_us;
  const int64_t fit = split_ctas_per_sm(plan.tile_tokens, plan.num_pairs);
  const int64_t ctas = int64_t{args.num_tiles} * plan.num_splits;
  const int64_t rounds = divide_up(args.num_tiles, resident_tiles(plan, num_sms));
  const int64_t of_sm = std::min(fit, divide_up(ctas, num_sms));
  // The last round may leave SMs to fewer CTAs, which then run faster.
  const double last = std::max(
      1.0, std::min(static_cast<double>(of_sm),
                    static_cast<double>(ctas) / num_sms - static_cast<double>((rounds - 1) * fit)));
  const int64_t blocks = divide_up(args.blocks, plan.num_splits);
  const double round_us = static_cast<double>(blocks) * block_us[of_sm - 1] + cost.end_us;
  const double last_us =
      static_cast<double>(blocks) * block_us[static_cast<int>(last + 0.999) - 1] + cost.end_us;
  const double products_us = static_cast<double>(rounds - 1) * round_us + last_us;
  const int64_t bytes =
      int64_t{args.num_tiles} * args.blocks * (kPackedBytes + (has_levels ? kLevelBytes : 0));
  const double copies_us = static_cast<double>(bytes) / kBytesPerUs;
  const double join_us =
      plan.num_splits == 1 ? 0.0 : kJoinUs + kJoinPartUs * plan.num_splits * plan.num_pairs;
  return kLaunchUs + std::max(products_us, copies_us) +
         kHiddenShare * std::min(products_us, copies_us) + join_us;
}

SplitPlan plan_gemm_split(const GemmArgs& args, int num_sms) {
  SplitPlan best;
  double best_us = 0;
  for (const SplitCost& tile : kCosts) {
    if (tile.tokens < args.tokens || (tile.tokens > 16 && tile.tokens >= 2 * args.tokens)) continue;
    if (tile.pairs == 2 && !split_has_two_pairs(args.kind, has_two_segments(args))) continue;
    for (int32_t splits = 1; splits <= std::min(kMaxSplits, args.blocks); ++splits) {
      const SplitPlan plan{tile.tokens, tile.pairs, splits};
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
