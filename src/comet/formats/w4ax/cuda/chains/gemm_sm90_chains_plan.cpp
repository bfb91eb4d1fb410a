// How a product of gemm_sm90_chains.h is cut: a model gives every cut a time, and the shortest
// wins. Builds without CUDA (gemm_sm90_chains_plan_test.cpp).
#include <algorithm>

#include "comet/base/check.h"
#include "comet/formats/w4ax/cuda/chains/gemm_sm90_chains.h"
#include "comet/formats/w4ax/cuda/gemm_sm90_costs.h"

namespace comet::formats::w4ax::cuda {
namespace {

/// What a CTA takes for a block of 128 channels, alone on its SM and beside another, of channel,
/// group and progressive weights (as WeightKind), and for a tile's first stages and end; µs.
struct ChainsCost {
  int32_t tokens;
  double alone_us[3];
  double shared_us[3];
  double end_us;
};

/// Fitted to one H200 (W4axChainsCuda.SameBitsOnLlama8B, 2026-11-27).
constexpr ChainsCost kCosts[] = {
    {16, {0.184, 0.220, 0.283}, {0.286, 0.337, 0.438}, 2.99},
    {32, {0.256, 0.311, 0.360}, {0.399, 0.473, 0.522}, 3.57},
    {64, {0.532, 0.653, 0.634}, {0.676, 0.844, 0.821}, 1.50},
    {128, {0.689, 0.832, 0.774}, {0.689, 0.832, 0.774}, 4.83},
};

constexpr double kNextUs = 1.7;            // first stages and end while others multiply
constexpr double kJoinBytesPerUs = 5.9e6;  // to L2, and from there

int64_t chains_of_cta(const GemmArgs& args, int32_t num_splits) {
  return divide_up(num_block_chains(args), num_splits);
}

const ChainsCost& cost_of(int32_t tile_tokens) {
  const auto* cost = std::ranges::find(kCosts, tile_tokens, &ChainsCost::tokens);
  COMET_CHECK(cost != std::end(kCosts), "no tile of {} tokens", tile_tokens);
  return *cost;
}

}  // namespace

ChainsPlan cut_gemm_chains(const GemmArgs& args, int32_t tile_tokens, int32_t num_splits,
                           int num_sms) {
  ChainsPlan plan{tile_tokens, num_splits, 1, 0};
  const int32_t num_tiles = num_chain_tiles(args, tile_tokens);
  plan.num_ctas = num_tiles * num_splits;
  if (num_splits > 1) {
    plan.workspace_bytes =
        int64_t{num_block_chains(args)} * num_tiles * 128 * tile_tokens * int64_t{4};
  } else if (chains_walk(tile_tokens)) {
    plan.num_ctas = std::min<int32_t>(num_tiles, num_sms);
  }
  return plan;
}

double time_gemm_chains_us(const GemmArgs& args, const ChainsPlan& plan, int num_sms) {
  const ChainsCost& cost = cost_of(plan.tile_tokens);
  const auto kind = static_cast<size_t>(args.kind);
  const int64_t num_tiles = num_chain_tiles(args, plan.tile_tokens);
  const int64_t resident =
      clusters_that_fit(chains_ctas_per_sm(plan.tile_tokens), plan.num_splits, num_sms);
  const int64_t rounds = divide_up(num_tiles, resident);
  const auto blocks =
      static_cast<double>(std::min<int64_t>(args.blocks, chains_of_cta(args, plan.num_splits) * 8));
  const auto round_us = [&](int64_t tiles) {
    // Some SM has two: CTAs of a cluster that fit one are put there.
    const bool is_shared = plan.num_splits > 1 || tiles > num_sms;
    return blocks * (is_shared ? cost.shared_us : cost.alone_us)[kind];
  };
  const double products_us = static_cast<double>(rounds - 1) * (round_us(resident) + kNextUs) +
                             round_us(num_tiles - (rounds - 1) * resident) + cost.end_us;
  const double copies_us =
      static_cast<double>(int64_t{args.num_tiles} * args.blocks * kPackedBytes) / kBytesPerUs;
  const double join_us = 2 * static_cast<double>(plan.workspace_bytes) / kJoinBytesPerUs;
  return kLaunchUs + std::max(products_us, copies_us) +
         kHiddenShare * std::min(products_us, copies_us) + join_us;
}

ChainsPlan plan_gemm_chains(const GemmArgs& args, int num_sms) {
  ChainsPlan best;
  double best_us = 0;
  for (const ChainsCost& tile : kCosts) {
    if (tile.tokens > 2 * std::max(args.tokens, 8)) continue;
    if (tile.tokens < std::min(args.tokens, 64)) continue;  // weights are read once
    for (int32_t splits = 1; splits <= kMostChainSplits; ++splits) {
      const ChainsPlan plan = cut_gemm_chains(args, tile.tokens, splits, num_sms);
      if (!chains_suit(args, plan)) continue;
      // More CTAs that leave the longest share as it is only have more to join.
      if (splits > 1 && chains_of_cta(args, splits) == chains_of_cta(args, splits - 1)) continue;
      const double us = time_gemm_chains_us(args, plan, num_sms);
      if (best_us == 0 || us < best_us) {
        best = plan;
        best_us = us;
      }
    }
  }
  return best;
}

}  // namespace comet::formats::w4ax::cuda
