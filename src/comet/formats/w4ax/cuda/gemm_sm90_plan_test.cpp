// plan_gemm_sm90() against the times of every cut that a card has run, and on shapes between them.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <map>
#include <sstream>
#include <tuple>

#include "comet/base/json.h"
#include "comet/formats/w4ax/cuda/gemm_sm90.h"
#include "comet/formats/w4ax/cuda/gemm_sm90_choice.h"
#include "comet/formats/w4ax/cuda/wide/gemm_sm90_wide.h"

namespace comet::formats::w4ax::cuda {
namespace {

const std::string kResults = COMET_SOURCE_DIR "/bench/results/h200/";

/// Tokens, rows, channels, mode.
using Case = std::tuple<int32_t, int32_t, int32_t, std::string>;
/// Tile rows and tokens, CTAs, whole tiles, is_wide, splits.
using Cut = std::tuple<int32_t, int32_t, int32_t, int32_t, bool, int32_t>;
/// Times of a cut that was measured twice (what was chosen then) are both there.
using Times = std::map<Cut, std::vector<double>>;

GemmArgs args_of(int32_t tokens, int32_t n, int32_t k, const std::string& mode) {
  GemmArgs args;
  args.tokens = tokens;
  args.num_tiles = n / 128;
  args.blocks = k / 128;
  args.kind = mode == "w4a8" ? WeightKind::kProgressive : WeightKind::kChannel;
  args.int4_blocks = mode == "w4a8" ? 0 : args.blocks - 1;
  return args;
}

Cut cut_of(const Sm90Plan& plan) {
  return {plan.tile_rows, plan.tile_tokens, plan.num_ctas,
          plan.num_whole, plan.is_wide,     plan.num_splits};
}

Sm90Plan plan_of(const Cut& cut) {
  Sm90Plan plan;
  std::tie(plan.tile_rows, plan.tile_tokens, plan.num_ctas, plan.num_whole, plan.is_wide,
           plan.num_splits) = cut;
  return plan;
}

std::string text_of(const Cut& cut) {
  const auto& [rows, tokens, ctas, whole, is_wide, splits] = cut;
  return std::to_string(rows) + " x " + std::to_string(tokens) + ", " + std::to_string(ctas) +
         " CTAs, " + std::to_string(whole) + " whole" + (is_wide ? ", wide" : "") + ", splits " +
         std::to_string(splits);
}

double mean(const std::vector<double>& times) {
  double sum = 0;
  for (const double us : times) sum += us;
  return sum / static_cast<double>(times.size());
}

struct Measured {
  int num_sms = 0;
  std::map<Case, Times> cases;
};

/// A measured cut that no kernel does any more.
bool is_gone(const GemmArgs& args, const Sm90Plan& plan) {
  return plan.is_wide ? !sm90_wide_suits(args, plan) : plan.tile_rows == 256;
}

/// Adds a file's cuts: rows of m, n, k, mode, the fields of Cut, µs. The last two of Cut may lack.
void read_file(const std::string& path, Measured& measured) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  const Json json = parse_json(text.str(), path).value();
  measured.num_sms = json.at("num_sms").get<int>();
  const bool has_wide = json.at("columns").size() == 11;
  for (const Json& row : json.at("rows")) {
    const Case key{row[0], row[1], row[2], row[3].get<std::string>()};
    const Cut cut{row[4],
                  row[5],
                  row[6],
                  row[7],
                  has_wide && row[8].get<int>() != 0,
                  has_wide ? row[9].get<int32_t>() : 1};
    const GemmArgs args =
        args_of(std::get<0>(key), std::get<1>(key), std::get<2>(key), std::get<3>(key));
    if (is_gone(args, plan_of(cut))) continue;
    measured.cases[key][cut].push_back(row[has_wide ? 10 : 8].get<double>());
  }
}

Measured read_measured() {
  Measured measured;
  read_file(kResults + "2026-11-25-w4ax-sm90-plans.json", measured);
  read_file(kResults + "2026-11-25-w4ax-sm90-wide-plans.json", measured);
  return measured;
}

/// The best cut of a case, and its time.
std::pair<Cut, double> best_of(const Times& times) {
  std::pair<Cut, double> best{{}, 0};
  for (const auto& [cut, all] : times) {
    if (best.second == 0 || mean(all) < best.second) best = {cut, mean(all)};
  }
  return best;
}

/// Logarithm of the chosen cut's time over that of the best one.
double log_ratio_of(const Case& key, const Times& times, int num_sms) {
  const auto& [m, n, k, mode] = key;
  const auto [best, best_us] = best_of(times);
  const Sm90Plan plan = plan_gemm_sm90(args_of(m, n, k, mode), num_sms);
  const Cut chosen = cut_of(plan);
  // Cuts that share tiles through memory were not run with 192 and 512 tokens.
  if ((m == 192 || m == 512) && plan.workspace_bytes > 0) return 0;
  const auto found = times.find(chosen);
  if (found == times.end()) {
    ADD_FAILURE() << m << " x " << n << " x " << k << " " << mode << ": " << text_of(chosen)
                  << " was not measured";
    return 0;
  }
  const double ratio = mean(found->second) / best_us;
  // At 4,096 tokens one and the same cut took up to 18 % longer when it was measured again: the
  // card lowers its clocks. Tiles of 128 x 128 on most SMs take, time and again, 6-25 % longer with
  // 192 tokens than with 256, for which they do the same work: unexplained, and not in the model.
  const bool is_slowed = m == 192 && n == 57344 && mode == "fmpq";
  EXPECT_LE(ratio, is_slowed   ? 1.16
                   : m == 4096 ? 1.10
                               : 1.07)
      << m << " x " << n << " x " << k << " " << mode << ": " << text_of(chosen) << " takes "
      << mean(found->second) << " us, " << text_of(best) << " takes " << best_us;
  return std::log(ratio);
}

TEST(W4axSm90Plan, IsNearlyTheBestThatWasMeasured) {
  const Measured measured = read_measured();
  ASSERT_EQ(measured.cases.size(), 8U * 10U * 2U);
  double log_sum = 0;
  for (const auto& [key, times] : measured.cases) {
    log_sum += log_ratio_of(key, times, measured.num_sms);
  }
  EXPECT_LE(std::exp(log_sum / static_cast<double>(measured.cases.size())), 1.02);
}

/// Up to 64 tokens: rows of split-plans.json. Rows and tokens of a tile, teams, splits, whether a
/// CTA is alone on its SM; teams 0: of gemm_sm90, splits 0 what plan_gemm_sm90() took, else wide
/// tiles.
using SplitCut = std::tuple<int32_t, int32_t, int32_t, int32_t, bool>;
constexpr SplitCut kPlanned{0, 0, 0, 0, false};

std::map<Case, std::map<SplitCut, double>> read_splits() {
  const std::string path = kResults + "2026-11-27-w4ax-sm90-split-plans.json";
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  std::map<Case, std::map<SplitCut, double>> cases;
  const Json json = parse_json(text.str(), path).value();
  for (const Json& row : json.at("rows")) {
    const bool is_planned = row[5].get<int>() == 0 && row[6].get<int>() == 0;
    const SplitCut cut =
        is_planned ? kPlanned : SplitCut{row[9], row[4], row[5], row[6], row[10].get<int>() == 1};
    cases[{row[0], row[1], row[2], row[3].get<std::string>()}][cut] = row[8].get<double>();
  }
  return cases;
}

SplitCut split_cut_of(const Sm90Choice& choice) {
  const SplitPlan& split = choice.split;
  if (choice.is_split) {
    return {split.tile_rows, split.tile_tokens, split.num_teams, split.num_splits, split.is_alone};
  }
  const Sm90Plan& plan = choice.tiles;
  if (!plan.is_wide) return kPlanned;
  return {plan.tile_rows, plan.tile_tokens, 0, plan.num_splits, false};
}

TEST(W4axSm90Choice, IsNearlyTheBestThatWasMeasured) {
  const auto cases = read_splits();
  ASSERT_EQ(cases.size(), 8U * 3U * 2U);
  double log_sum = 0;
  for (const auto& [key, times] : cases) {
    const auto& [m, n, k, mode] = key;
    const Sm90Choice choice = choose_gemm_sm90(args_of(m, n, k, mode), 132);
    const SplitCut cut = split_cut_of(choice);
    ASSERT_TRUE(times.contains(cut)) << m << " x " << n << " x " << k << " " << mode;
    EXPECT_TRUE(choice.is_measured) << m << " x " << n << " x " << k << " " << mode;
    double best_us = times.at(cut);
    for (const auto& [other, us] : times) best_us = std::min(best_us, us);
    const double ratio = times.at(cut) / best_us;
    // Chosen by what a decode step takes (gemm_sm90_choice.cpp), not by launches in a row.
    const bool is_by_step = m == 16 && n == 4096 && k == 4096 && mode == "w4a8";
    EXPECT_LE(ratio, is_by_step ? 1.15 : 1.08)
        << m << " x " << n << " x " << k << " " << mode << ": tile of " << std::get<0>(cut) << " x "
        << std::get<1>(cut) << ", " << std::get<2>(cut) << " teams, " << std::get<3>(cut)
        << " splits" << (std::get<4>(cut) ? ", alone" : "") << "; best " << best_us;
    log_sum += std::log(ratio);
  }
  EXPECT_LE(std::exp(log_sum / static_cast<double>(cases.size())), 1.02);
}

/// The model of the split kernel's cuts, which decides where the table has no row, against the best
/// of its kernels' cuts but half tiles that share an SM, which it does not have.
TEST(W4axSm90Choice, TheSplitModelIsNearTheBestToo) {
  double log_sum = 0;
  const auto cases = read_splits();
  for (const auto& [key, times] : cases) {
    const auto& [m, n, k, mode] = key;
    const SplitPlan plan = plan_gemm_split(args_of(m, n, k, mode), 132);
    const auto chosen = times.find(
        {plan.tile_rows, plan.tile_tokens, plan.num_teams, plan.num_splits, plan.is_alone});
    ASSERT_TRUE(chosen != times.end()) << m << " x " << n << " x " << k << " " << mode;
    double best_us = chosen->second;
    for (const auto& [cut, us] : times) {
      const auto& [rows, tokens, teams, splits, is_alone] = cut;
      if (teams > 0 && (rows == 128 || is_alone)) best_us = std::min(best_us, us);
    }
    const double ratio = chosen->second / best_us;
    EXPECT_LE(ratio, 1.2) << m << " x " << n << " x " << k << " " << mode << ": tiles of "
                          << plan.tile_rows << " x " << plan.tile_tokens << ", splits "
                          << plan.num_splits << (plan.is_alone ? ", alone" : "") << "; best "
                          << best_us;
    log_sum += std::log(ratio);
  }
  EXPECT_LE(std::exp(log_sum / static_cast<double>(cases.size())), 1.03);
}

/// Numbers of tokens between those measured take the cut of the next; other cards and other shapes
/// take the models'.
TEST(W4axSm90Choice, TableHoldsBetweenMeasuredTokens) {
  const auto choose = [](int32_t tokens, int32_t n, int num_sms) {
    return choose_gemm_sm90(args_of(tokens, n, 4096, "w4a8"), num_sms);
  };
  for (const auto& [tokens, next] :
       {std::pair{1, 8}, {7, 8}, {9, 16}, {17, 32}, {31, 32}, {33, 64}}) {
    EXPECT_TRUE(choose(tokens, 4096, 132).is_measured) << tokens;
    EXPECT_EQ(split_cut_of(choose(tokens, 4096, 132)), split_cut_of(choose(next, 4096, 132)));
  }
  EXPECT_FALSE(choose(16, 4096, 114).is_measured);
  EXPECT_FALSE(choose(16, 4224, 132).is_measured);
  EXPECT_FALSE(choose(65, 4096, 132).is_measured);
}

/// Many INT8 blocks: kernels of wide tiles hold one, so that others must be taken.
TEST(W4axSm90Choice, SuitsAnyShareOfInt8) {
  for (const int32_t int4_blocks : {1, 9, 28, 31}) {
    for (const int32_t tokens : {1, 32, 64, 192, 256}) {
      for (const int32_t n : {4096, 6144, 28672}) {
        GemmArgs args = args_of(tokens, n, 4096, "fmpq");
        args.int4_blocks = int4_blocks;
        const Sm90Choice choice = choose_gemm_sm90(args, 132);
        if (choice.is_split) {
          EXPECT_TRUE(split_suits(args, choice.split)) << int4_blocks << " " << tokens;
        } else {
          EXPECT_TRUE(!choice.tiles.is_wide || sm90_wide_suits(args, choice.tiles));
        }
      }
    }
  }
}

/// Estimates order cuts; they need not be times, but should be near them.
TEST(W4axSm90Plan, EstimatesAreNearWhatWasMeasured) {
  const Measured measured = read_measured();
  double sum = 0;
  int count = 0;
  for (const auto& [key, times] : measured.cases) {
    const auto& [m, n, k, mode] = key;
    const GemmArgs args = args_of(m, n, k, mode);
    for (const auto& [cut, all] : times) {
      const double us = time_gemm_sm90_us(args, plan_of(cut), measured.num_sms);
      const double error = std::log(us / mean(all));
      EXPECT_LE(std::abs(error), 0.35) << m << " x " << n << " x " << k << " " << mode << ": "
                                       << text_of(cut) << ": " << us << " for " << mean(all);
      sum += error * error;
      ++count;
    }
  }
  EXPECT_LE(std::sqrt(sum / count), 0.07);
}

void check_fits(const GemmArgs& args, int num_sms) {
  const int segments = args.int4_blocks > 0 ? 2 : 1;
  const Sm90Plan plan = plan_gemm_sm90(args, num_sms);
  EXPECT_TRUE(plan.is_wide ? sm90_wide_suits(args, plan) : plan.tile_rows == 128);
  const int64_t most = int64_t{num_sms} * sm90_ctas_per_sm(plan.tile_tokens, segments);
  EXPECT_TRUE(plan.num_splits > 1 || plan.num_ctas <= most);
  EXPECT_GE(plan.num_ctas, 1);
  const int64_t row_tiles = (args.num_tiles + plan.tile_rows / 128 - 1) / (plan.tile_rows / 128);
  const int64_t tiles = row_tiles * ((args.tokens + plan.tile_tokens - 1) / plan.tile_tokens);
  EXPECT_LE(plan.num_whole, tiles);
  EXPECT_LE(2 * (tiles - plan.num_whole), kNumCounters);
  EXPECT_EQ(plan.workspace_bytes > 0, plan.num_whole < tiles);
  EXPECT_LE(plan.workspace_bytes, int64_t{64} << 20);
}

/// Every share of INT8 that differs, both kinds of weights.
void check_kinds(GemmArgs args, int num_sms) {
  for (const int32_t int4_blocks : {0, args.blocks - 1}) {
    for (const WeightKind kind : {WeightKind::kProgressive, WeightKind::kChannel}) {
      args.kind = kind;
      args.int4_blocks = int4_blocks;
      check_fits(args, num_sms);
    }
  }
}

/// Whatever the shape and the card, a plan covers the product and fits what launches it.
TEST(W4axSm90Plan, FitsOnEveryShape) {
  for (const int num_sms : {1, 78, 114, 132}) {
    for (const int32_t num_tiles : {1, 3, 24, 65, 112, 500}) {
      for (const int32_t blocks : {1, 3, 40, 224}) {
        for (const int32_t tokens : {1, 17, 33, 65, 96, 200, 257, 2000, 8192}) {
          check_kinds(args_of(tokens, num_tiles * 128, blocks * 128, "w4a8"), num_sms);
        }
      }
    }
  }
}

TEST(W4axSm90Plan, NothingToDoIsAPlanToo) {
  EXPECT_EQ(plan_gemm_sm90(args_of(0, 4096, 4096, "fmpq"), 132).workspace_bytes, 0);
}

}  // namespace
}  // namespace comet::formats::w4ax::cuda
