// The best measured cut of shapes that a card of 132 SMs has run; elsewhere the models' choice.
#include "comet/formats/w4ax/cuda/gemm_sm90_choice.h"

#include <algorithm>
#include <iterator>

#include "comet/formats/w4ax/cuda/wide/gemm_sm90_wide.h"

namespace comet::formats::w4ax::cuda {
namespace {

constexpr int kMeasuredSms = 132;

/// A row of the table: tokens, rows and channels of the weights; the cut; its time in µs.
struct Tuned {
  int32_t tokens, n, k;
  WeightKind kind;
  int32_t tile_rows, tile_tokens;
  int32_t num_teams;   // of gemm_sm90_split.h; 0: gemm_sm90.h
  int32_t num_splits;  // there 0: what plan_gemm_sm90() takes, else wide tiles
  double us;
  bool is_alone = false;  // gemm_sm90_split.h
};

/// Progressive weights were measured in one segment, channel ones with an INT8 block behind.
constexpr WeightKind kLevels = WeightKind::kProgressive;
constexpr WeightKind kPlain = WeightKind::kChannel;

/// Of bench/results/h200/2026-11-27-w4ax-sm90-split-plans.json (8 tokens: the time of 16); beyond
/// 64 tokens those few where
/// the models are wrong by more than 5 % (LLaMA-3 8B and 70B; gemm_sm90_plan_test.cpp).
constexpr Tuned kTuned[] = {
    // 4096 x 4096 of up to 32 tokens as a decode step has it quicker: between its other kernels a
    // CTA alone on its SM beats two on one, which are ahead where launch follows launch (LLaMA-3
    // 8B, tokens/s: 462 and 430 of one stream, 5,796 and 5,706 of 16, 9,007 and 8,844 of 32; of
    // channel weights 470 and 444, 5,639 and 5,697).
    {16, 4096, 4096, kLevels, 64, 16, 4, 2, 5.1, true},
    {16, 6144, 4096, kLevels, 64, 16, 4, 1, 5.8, true},
    {16, 4096, 14336, kLevels, 64, 16, 4, 2, 10.0, true},
    {16, 8192, 8192, kLevels, 64, 16, 4, 1, 10.5, true},
    {16, 10240, 8192, kLevels, 128, 16, 1, 4, 14.4},
    {16, 28672, 4096, kLevels, 128, 16, 0, 0, 17.6},
    {16, 8192, 28672, kLevels, 64, 16, 4, 1, 29.4, true},
    {16, 57344, 8192, kLevels, 128, 16, 0, 0, 62.3},
    {32, 4096, 4096, kLevels, 64, 32, 4, 2, 5.5, true},
    {32, 6144, 4096, kLevels, 64, 32, 4, 1, 6.3, true},
    {32, 4096, 14336, kLevels, 64, 32, 4, 2, 10.5, true},
    {32, 8192, 8192, kLevels, 64, 32, 4, 1, 11.0, true},
    {32, 10240, 8192, kLevels, 64, 32, 2, 2, 17.3},
    {32, 28672, 4096, kLevels, 128, 32, 0, 0, 19.6},
    {32, 8192, 28672, kLevels, 64, 32, 4, 1, 29.9, true},
    {32, 57344, 8192, kLevels, 128, 32, 0, 0, 65.2},
    {64, 4096, 4096, kLevels, 64, 64, 3, 2, 6.1, true},
    {64, 6144, 4096, kLevels, 64, 64, 3, 1, 7.5, true},
    {64, 4096, 14336, kLevels, 64, 64, 3, 2, 11.8, true},
    {64, 8192, 8192, kLevels, 64, 64, 3, 1, 12.5, true},
    {64, 10240, 8192, kLevels, 256, 64, 0, 2, 19.0},
    {64, 28672, 4096, kLevels, 256, 64, 0, 1, 20.3},
    {64, 8192, 28672, kLevels, 64, 64, 3, 1, 35.2, true},
    {64, 57344, 8192, kLevels, 256, 64, 0, 1, 71.4},
    {8, 4096, 4096, kPlain, 64, 16, 4, 2, 5.1, true},
    {16, 4096, 4096, kPlain, 64, 16, 2, 2, 4.0},
    {16, 6144, 4096, kPlain, 64, 16, 4, 1, 5.8, true},
    {16, 4096, 14336, kPlain, 64, 16, 4, 2, 9.9, true},
    {16, 8192, 8192, kPlain, 64, 16, 4, 1, 10.5, true},
    {16, 10240, 8192, kPlain, 128, 16, 1, 4, 13.4},
    {16, 28672, 4096, kPlain, 128, 16, 0, 0, 16.2},
    {16, 8192, 28672, kPlain, 64, 16, 4, 1, 29.1, true},
    {16, 57344, 8192, kPlain, 128, 16, 2, 1, 59.9},
    {32, 4096, 4096, kPlain, 64, 32, 2, 2, 5.5},
    {32, 6144, 4096, kPlain, 64, 32, 4, 1, 6.4, true},
    {32, 4096, 14336, kPlain, 64, 32, 4, 2, 10.4, true},
    {32, 8192, 8192, kPlain, 64, 32, 4, 1, 11.0, true},
    {32, 10240, 8192, kPlain, 64, 32, 2, 1, 14.7},
    {32, 28672, 4096, kPlain, 128, 32, 0, 0, 17.9},
    {32, 8192, 28672, kPlain, 64, 32, 4, 1, 29.5, true},
    {32, 57344, 8192, kPlain, 128, 32, 1, 1, 63.4},
    {64, 4096, 4096, kPlain, 64, 64, 2, 2, 6.2, true},
    {64, 6144, 4096, kPlain, 64, 64, 2, 1, 7.6, true},
    {64, 4096, 14336, kPlain, 64, 64, 2, 2, 11.7, true},
    {64, 8192, 8192, kPlain, 64, 64, 2, 1, 12.2, true},
    {64, 10240, 8192, kPlain, 128, 64, 0, 1, 16.5},
    {64, 28672, 4096, kPlain, 256, 64, 0, 1, 20.1},
    {64, 8192, 28672, kPlain, 64, 64, 2, 1, 32.0, true},
    {64, 57344, 8192, kPlain, 256, 64, 0, 1, 65.9},
    {192, 4096, 4096, kLevels, 128, 256, 0, 3, 12.6},
    {256, 4096, 4096, kLevels, 128, 256, 0, 3, 13.3},
    {256, 4096, 14336, kPlain, 128, 64, 0, 1, 27.2},
    {192, 4096, 14336, kPlain, 128, 64, 0, 1, 26.3},
    {192, 8192, 8192, kPlain, 128, 256, 0, 2, 28.7},
    {192, 57344, 8192, kPlain, 128, 64, 0, 1, 168.9},
    {512, 10240, 8192, kPlain, 128, 128, 0, 1, 69.3},
};

/// Tokens that a row stands for: as many tiles of tokens as its own has. The first row that fits is
/// taken.
constexpr int32_t fewest_tokens(int32_t tokens) {
  if (tokens <= 64) return tokens <= 16 ? 1 : tokens / 2 + 1;
  return tokens - 63;
}

const Tuned* find_tuned(const GemmArgs& args, int num_sms) {
  const bool has_two = has_two_segments(args);
  if (num_sms != kMeasuredSms || has_two != (args.kind == kPlain)) return nullptr;
  const auto* row = std::ranges::find_if(kTuned, [&](const Tuned& tuned) {
    return tuned.kind == args.kind && tuned.n == args.num_tiles * 128 &&
           tuned.k == args.blocks * 128 && args.tokens <= tuned.tokens &&
           args.tokens >= fewest_tokens(tuned.tokens);
  });
  return row == std::end(kTuned) ? nullptr : row;
}

/// False where the row's kernel does not take this product (many INT8 blocks).
bool take(const Tuned& row, const GemmArgs& args, int num_sms, Sm90Choice& choice) {
  choice.us = row.us;
  choice.is_measured = true;
  choice.is_split = row.num_teams > 0;
  if (choice.is_split) {
    choice.split = {row.tile_tokens, row.num_teams, row.num_splits, row.tile_rows, row.is_alone};
    return split_suits(args, choice.split);
  }
  if (row.num_splits == 0) {
    choice.tiles = plan_gemm_sm90(args, num_sms);
    return true;
  }
  Sm90Plan plan{row.tile_rows, row.tile_tokens, num_sms};
  plan.is_wide = true;
  plan.num_splits = row.num_splits;
  if (!sm90_wide_suits(args, plan)) return false;
  choice.tiles = cut_gemm_sm90(args, plan, true);
  return true;
}

}  // namespace

Sm90Choice choose_gemm_sm90(const GemmArgs& args, int num_sms) {
  Sm90Choice choice;
  if (args.tokens == 0 || args.num_tiles == 0) return choice;
  const Tuned* row = find_tuned(args, num_sms);
  if (row != nullptr && take(*row, args, num_sms, choice)) return choice;
  choice = {};
  choice.tiles = plan_gemm_sm90(args, num_sms);
  choice.us = time_gemm_sm90_us(args, choice.tiles, num_sms);
  if (args.tokens > kMaxSplitTokens) return choice;
  choice.split = plan_gemm_split(args, num_sms);
  const double split_us = time_gemm_split_us(args, choice.split, num_sms);
  choice.is_split = split_us < choice.us;
  if (choice.is_split) choice.us = split_us;
  return choice;
}

}  // namespace comet::formats::w4ax::cuda
