// How a product of gemm_sm90.h is cut: every cut that suits is given a time by a model of the
// kernel, and the shortest wins. Builds without CUDA, so that its choices are tested everywhere
// against what was measured (gemm_sm90_plan_test.cpp).
#include <algorithm>

#include "comet/base/check.h"
#include "comet/formats/w4ax/cuda/gemm_sm90.h"
#include "comet/formats/w4ax/cuda/wide/gemm_sm90_wide.h"

namespace comet::formats::w4ax::cuda {
namespace {

constexpr int64_t kPackedRows = 128;
constexpr int64_t kPackedBytes = 8192;  // of a block of a packed tile
constexpr int64_t kLevelBytes = 256;    // beside it, of progressive weights
constexpr int64_t kLeastBlocks = 4;     // of a CTA that shares tiles
constexpr int64_t kMostTokensOf64 = 256;

/// What a CTA takes for a block of 128 channels, alone on its SM or one of two, and for the end of
/// a tile; µs.
struct TileCost {
  int32_t rows;
  int32_t tokens;
  double channel_us[2];
  double progressive_us[2];
  double end_us;
};

/// Fitted to one H200 (bench/results/h200/2026-11-25-w4ax-sm90-plans.json). Not measured, put in by
/// ratio: 32 tokens, between 16 and 64; channel weights of one segment in two CTAs of 64 tokens.
constexpr TileCost kTileCosts[] = {
    {128, 16, {0.219, 0.306}, {0.280, 0.471}, 1.43},
    {128, 32, {0.231, 0.350}, {0.296, 0.503}, 1.80},
    {128, 64, {0.254, 0.437}, {0.329, 0.566}, 2.54},
    {128, 128, {0.344, 0.344}, {0.397, 0.397}, 3.38},
};

/// Likewise of a wide tile, one CTA an SM; the end of one or of two segments.
struct WideCost {
  int32_t rows;
  int32_t tokens;
  double channel_us;
  double progressive_us;
  double end_us[2];
};

/// Fitted to the same card (2026-11-25-w4ax-sm90-wide-plans.json). Not measured: channel weights of
/// one segment, progressive ones of two.
constexpr WideCost kWideCosts[] = {
    {128, 64, 0.250, 0.344, {1.52, 2.08}},
    {128, 128, 0.334, 0.391, {2.74, 3.38}},
    {256, 128, 0.534, 0.738, {2.82, 9.50}},
    {128, 256, 0.587, 0.622, {3.36, 11.71}},
};

/// A cluster of 2, 3, 4 CTAs that shares a tile of 128 × 256: how many 132 SMs hold, one CTA an SM,
/// and µs beside its blocks and its part of the end, of one or of two segments.
struct ClusterCost {
  int that_fit;
  double us[2];
};
constexpr ClusterCost kClusterCosts[] = {
    {66, {4.32, 3.31}}, {39, {4.58, 3.32}}, {30, {5.75, 4.96}}};

constexpr int64_t kMeasuredSms = 132;
constexpr double kLaunchUs = 1.1;
constexpr double kBytesPerUs = 4.25e6;  // from memory
constexpr double kHiddenShare = 0.03;   // of the shorter of copies and products, what still shows
// Tiles that several CTAs share: their blocks lie apart, so that fewer of their bytes are in L2 …
constexpr double kSharedBlock = 1.09;
// … and parts are joined: a chain of write, vote, read and add; longer for large tiles and many
// parts, for two CTAs of an SM at once, for two segments.
constexpr double kJoinUs = 3.6;
constexpr double kJoinTileUs = 3.15;  // of 64 KiB of sums
constexpr double kJoinPartUs = 0.56;  // likewise, of a part
constexpr double kJoinOfTwoCtas = 1.38;
constexpr double kJoinOfTwoSegments = 1.29;

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

int num_segments(const GemmArgs& args) { return has_two_segments(args) ? 2 : 1; }

int64_t tiles_of(const GemmArgs& args, int64_t rows, int64_t tokens) {
  return divide_up(args.num_tiles, rows / kPackedRows) * divide_up(args.tokens, tokens);
}

const WideCost& wide_cost_of(const Sm90Plan& plan) {
  const auto* cost = std::ranges::find_if(kWideCosts, [&](const WideCost& tile) {
    return tile.rows == plan.tile_rows && tile.tokens == plan.tile_tokens;
  });
  COMET_CHECK(cost != std::end(kWideCosts), "no wide tile of {} x {}", plan.tile_rows,
              plan.tile_tokens);
  return *cost;
}

const TileCost& cost_of(const Sm90Plan& plan) {
  const auto* cost = std::ranges::find_if(kTileCosts, [&](const TileCost& tile) {
    return tile.rows == plan.tile_rows && tile.tokens == plan.tile_tokens;
  });
  COMET_CHECK(cost != std::end(kTileCosts), "no tile of {} x {}", plan.tile_rows, plan.tile_tokens);
  return *cost;
}

/// CTAs on the busiest SM. Where two fit, the next launch comes in while this one runs and finds
/// some SMs with more room than others: from half as many CTAs as SMs on, short of all, some SMs
/// get two.
int busiest(int64_t num_ctas, int64_t num_sms, int ctas_that_fit) {
  if (ctas_that_fit == 1 || num_ctas <= num_sms / 2 || num_ctas == num_sms) return 1;
  return 2;
}

double join_us(const Sm90Plan& plan, int64_t num_shared, int segments, int per_sm) {
  const double sums = plan.tile_rows * plan.tile_tokens * 4.0 / 65536.0;
  const double parts = std::max(1.0, static_cast<double>(plan.num_ctas) / double(num_shared));
  return (kJoinUs + sums * (kJoinTileUs + kJoinPartUs * parts)) *
         (per_sm == 2 ? kJoinOfTwoCtas : 1.0) * (segments == 2 ? kJoinOfTwoSegments : 1.0);
}

/// Tiles that hold all tokens as far as 64; beyond, those of 64 while they are few, and of 128.
bool suits(const TileCost& tile, const GemmArgs& args) {
  if (args.tokens <= 64) {
    return tile.tokens >= args.tokens && (tile.tokens == 16 || tile.tokens < 2 * args.tokens) &&
           tile.tokens <= 64;
  }
  return tile.tokens >= 128 || (tile.tokens == 64 && args.tokens <= kMostTokensOf64);
}

}  // namespace

Sm90Plan cut_gemm_sm90(const GemmArgs& args, Sm90Plan plan, bool is_whole) {
  const int64_t tiles = tiles_of(args, plan.tile_rows, plan.tile_tokens);
  // Whole tiles while more than two rounds of CTAs are left: neighbours then share what they read.
  const int64_t num_whole = std::max<int64_t>(tiles / plan.num_ctas - 1, 0) * plan.num_ctas;
  if (plan.num_splits > 1) {
    plan.num_whole = static_cast<int32_t>(tiles);
    plan.num_ctas = static_cast<int32_t>(tiles * plan.num_splits);
    plan.workspace_bytes = 0;
    return plan;
  }
  if (is_whole || 2 * (tiles - num_whole) > kNumCounters) {
    plan.num_whole = static_cast<int32_t>(tiles);
    plan.num_ctas = static_cast<int32_t>(std::min<int64_t>(tiles, plan.num_ctas));
    plan.workspace_bytes = 0;
    return plan;
  }
  plan.num_whole = static_cast<int32_t>(num_whole);
  plan.workspace_bytes = int64_t{2} * plan.num_ctas * num_segments(args) * plan.tile_rows *
                         plan.tile_tokens * int64_t{4};
  return plan;
}

namespace {

/// Launch, copies and products, of which the shorter is mostly hidden.
double overlapped_us(const GemmArgs& args, double products_us) {
  const int64_t levels = args.kind == WeightKind::kProgressive ? kLevelBytes : 0;
  const int64_t bytes = int64_t{args.num_tiles} * args.blocks * (kPackedBytes + levels);
  const double copies_us = static_cast<double>(bytes) / kBytesPerUs;
  return kLaunchUs + std::max(products_us, copies_us) +
         kHiddenShare * std::min(products_us, copies_us);
}

double time_wide_us(const GemmArgs& args, const Sm90Plan& plan, int num_sms) {
  const WideCost& cost = wide_cost_of(plan);
  const int segments = num_segments(args);
  const double block_us =
      args.kind == WeightKind::kProgressive ? cost.progressive_us : cost.channel_us;
  const int64_t tiles = tiles_of(args, plan.tile_rows, plan.tile_tokens);
  if (plan.num_splits == 1) {
    const auto rounds = static_cast<double>(divide_up(tiles, std::min(plan.num_ctas, num_sms)));
    return overlapped_us(args, rounds * (args.blocks * block_us + cost.end_us[segments - 1]));
  }
  const ClusterCost& cluster = kClusterCosts[plan.num_splits - 2];
  const int64_t fit = int64_t{cluster.that_fit} * num_sms / kMeasuredSms;
  const auto rounds = static_cast<double>(divide_up(tiles, std::max<int64_t>(1, fit)));
  const auto blocks = static_cast<double>(divide_up(args.blocks, plan.num_splits));
  return overlapped_us(args,
                       rounds * (blocks * block_us + cost.end_us[segments - 1] / plan.num_splits +
                                 cluster.us[segments - 1]));
}

}  // namespace

double time_gemm_sm90_us(const GemmArgs& args, const Sm90Plan& plan, int num_sms) {
  if (plan.is_wide) return time_wide_us(args, plan, num_sms);
  const TileCost& cost = cost_of(plan);
  const bool has_levels = args.kind == WeightKind::kProgressive;
  const double* block_us = has_levels ? cost.progressive_us : cost.channel_us;
  const int segments = num_segments(args);
  const int fit = sm90_ctas_per_sm(plan.tile_tokens, segments);
  const int64_t tiles = tiles_of(args, plan.tile_rows, plan.tile_tokens);
  const int per_sm = busiest(plan.num_ctas, num_sms, fit);
  const auto tile_us = [&](int ctas) { return args.blocks * block_us[ctas - 1] + cost.end_us; };
  const int64_t rounds = plan.num_whole / plan.num_ctas;
  double products_us = static_cast<double>(rounds) * tile_us(per_sm);
  double joins_us = 0;
  if (const int64_t rest = plan.num_whole % plan.num_ctas; rest > 0) {
    products_us += tile_us(rest > num_sms ? 2 : 1);
  }
  if (const int64_t shared = tiles - plan.num_whole; shared > 0) {
    const double blocks = static_cast<double>(shared * args.blocks) / plan.num_ctas;
    products_us += blocks * block_us[per_sm - 1] * kSharedBlock + cost.end_us;
    joins_us = join_us(plan, shared, segments, per_sm);
  }
  return overlapped_us(args, products_us) + joins_us;
}

namespace {

/// The best plan so far.
struct Best {
  const GemmArgs& args;
  int num_sms;
  Sm90Plan plan;
  double us = 0;

  void consider(const Sm90Plan& other) {
    const double other_us = time_gemm_sm90_us(args, other, num_sms);
    if (us != 0 && other_us >= us) return;
    plan = other;
    us = other_us;
  }
};

void consider_tile(Best& best, const TileCost& tile) {
  const GemmArgs& args = best.args;
  const int fit = sm90_ctas_per_sm(tile.tokens, num_segments(args));
  const int64_t blocks = tiles_of(args, tile.rows, tile.tokens) * args.blocks;
  for (int per_sm = 1; per_sm <= fit; ++per_sm) {
    const int64_t most = int64_t{best.num_sms} * per_sm;
    for (const bool is_whole : {true, false}) {
      const int64_t ctas = is_whole ? most : std::clamp<int64_t>(blocks / kLeastBlocks, 1, most);
      best.consider(
          cut_gemm_sm90(args, {tile.rows, tile.tokens, static_cast<int32_t>(ctas)}, is_whole));
    }
  }
}

void consider_wide(Best& best, const WideCost& tile) {
  if (tile.tokens >= 2 * best.args.tokens) return;
  if (tile.tokens == 64 && best.args.tokens > kMostTokensOf64) return;
  for (int32_t splits = 1; splits <= sm90_most_splits(tile.rows, tile.tokens); ++splits) {
    Sm90Plan plan{tile.rows, tile.tokens, best.num_sms};
    plan.is_wide = true;
    plan.num_splits = splits;
    if (sm90_wide_suits(best.args, plan)) best.consider(cut_gemm_sm90(best.args, plan, true));
  }
}

}  // namespace

Sm90Plan plan_gemm_sm90(const GemmArgs& args, int num_sms) {
  Best best{args, num_sms, {}};
  if (args.tokens == 0 || args.num_tiles == 0) return best.plan;
  for (const TileCost& tile : kTileCosts) {
    if (suits(tile, args)) consider_tile(best, tile);
  }
  if (args.tokens > 64) {
    for (const WideCost& tile : kWideCosts) consider_wide(best, tile);
  }
  return best.plan;
}

}  // namespace comet::formats::w4ax::cuda
