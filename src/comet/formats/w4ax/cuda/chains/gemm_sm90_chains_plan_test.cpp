// plan_gemm_chains(): what it takes fits what launches it, on every shape, and is near the best of
// what a card has run.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <sstream>
#include <tuple>

#include "comet/base/json.h"
#include "comet/formats/w4ax/cuda/chains/gemm_sm90_chains.h"

namespace comet::formats::w4ax::cuda {
namespace {

GemmArgs args_of(WeightKind kind, int32_t num_tiles, int32_t blocks, int32_t tokens) {
  GemmArgs args;
  args.kind = kind;
  args.num_tiles = num_tiles;
  args.blocks = blocks;
  args.int4_blocks = blocks - 1;
  args.block_scales = kind != WeightKind::kGroup;
  args.tokens = tokens;
  return args;
}

void check_fits(const GemmArgs& args, int num_sms) {
  const ChainsPlan plan = plan_gemm_chains(args, num_sms);
  ASSERT_TRUE(chains_suit(args, plan));
  EXPECT_GT(time_gemm_chains_us(args, plan, num_sms), 0);
  const int64_t tiles = num_chain_tiles(args, plan.tile_tokens);
  const int64_t slots = tiles * 128 * plan.tile_tokens;  // values of a chain
  EXPECT_EQ(plan.workspace_bytes, plan.num_splits > 1 ? num_block_chains(args) * slots * 4 : 0);
  if (plan.num_splits > 1 || !chains_walk(plan.tile_tokens)) {
    EXPECT_EQ(plan.num_ctas, tiles * plan.num_splits);
  } else {
    EXPECT_GE(plan.num_ctas, 1);
    EXPECT_LE(plan.num_ctas, tiles);
  }
}

TEST(W4axChainsPlan, FitsOnEveryShape) {
  for (const int num_sms : {1, 78, 114, 132}) {
    for (const int32_t num_tiles : {1, 3, 32, 65, 112, 500}) {
      for (const int32_t blocks : {1, 3, 8, 40, 224}) {
        for (const int32_t tokens : {1, 16, 17, 33, 64, 65, 200, 4096}) {
          for (const WeightKind kind :
               {WeightKind::kChannel, WeightKind::kGroup, WeightKind::kProgressive}) {
            check_fits(args_of(kind, num_tiles, blocks, tokens), num_sms);
          }
        }
      }
    }
  }
}

/// A product of few tiles is split, so that most SMs have work; one of many is not. Weights are
/// read once where 64 tokens or fewer are multiplied.
TEST(W4axChainsPlan, SplitsWhereTilesAreFew) {
  EXPECT_GE(plan_gemm_chains(args_of(WeightKind::kGroup, 32, 32, 16), 132).num_splits, 2);
  EXPECT_EQ(plan_gemm_chains(args_of(WeightKind::kGroup, 4000, 32, 16), 132).num_splits, 1);
  EXPECT_EQ(plan_gemm_chains(args_of(WeightKind::kGroup, 32, 32, 1), 132).tile_tokens, 16);
  EXPECT_EQ(plan_gemm_chains(args_of(WeightKind::kGroup, 32, 32, 64), 132).tile_tokens, 64);
  EXPECT_EQ(plan_gemm_chains(args_of(WeightKind::kProgressive, 224, 32, 2048), 132).tile_tokens,
            128);
}

/// Scales per segment have no chains.
TEST(W4axChainsPlan, SuitsChainsAlone) {
  GemmArgs args = args_of(WeightKind::kChannel, 32, 32, 16);
  EXPECT_TRUE(chains_suit(args, {16, 4}));
  EXPECT_FALSE(chains_suit(args, {16, 5}));
  EXPECT_FALSE(chains_suit(args, {48, 1}));
  args.block_scales = false;
  EXPECT_FALSE(chains_suit(args, {16, 1}));
}

/// Tokens, rows, channels, weights, scale mode; tokens of a tile, splits.
using Case = std::tuple<int32_t, int32_t, int32_t, std::string, std::string>;
using Cut = std::tuple<int32_t, int32_t>;

std::map<Case, std::map<Cut, double>> read_measured() {
  const std::string path = COMET_SOURCE_DIR "/bench/results/h200/2026-11-27-w4ax-sm90-chains.json";
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  std::map<Case, std::map<Cut, double>> cases;
  const Json json = parse_json(text.str(), path).value();
  for (const Json& row : json.at("rows")) {
    if (row[5].get<std::string>() != "chains") continue;
    const Case key{row[0], row[1], row[2], row[3].get<std::string>(), row[4].get<std::string>()};
    cases[key][{row[6], row[7]}] = row[8].get<double>();
  }
  return cases;
}

WeightKind kind_of(const std::string& weights) {
  if (weights == "channel") return WeightKind::kChannel;
  return weights == "group" ? WeightKind::kGroup : WeightKind::kProgressive;
}

TEST(W4axChainsPlan, IsNearlyTheBestThatWasMeasured) {
  const auto cases = read_measured();
  ASSERT_EQ(cases.size(), 4U * 4U * 6U);
  double log_sum = 0;
  for (const auto& [key, times] : cases) {
    const auto& [m, n, k, weights, scale] = key;
    GemmArgs args = args_of(kind_of(weights), n / 128, k / 128, m);
    args.block_scales = scale == "S1";
    const ChainsPlan plan = plan_gemm_chains(args, 132);
    const auto chosen = times.find({plan.tile_tokens, plan.num_splits});
    ASSERT_TRUE(chosen != times.end()) << m << " x " << n << " x " << k << " " << weights;
    double best_us = chosen->second;
    for (const auto& [cut, us] : times) best_us = std::min(best_us, us);
    const double ratio = chosen->second / best_us;
    EXPECT_LE(ratio, 1.16) << m << " x " << n << " x " << k << " " << weights << ", " << scale
                           << ": tiles of " << plan.tile_tokens << " tokens, " << plan.num_splits
                           << " splits; best " << best_us;
    log_sum += std::log(ratio);
  }
  EXPECT_LE(std::exp(log_sum / static_cast<double>(cases.size())), 1.025);
}

}  // namespace
}  // namespace comet::formats::w4ax::cuda
