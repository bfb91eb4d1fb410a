// The table of w4a16's cuts against the times of every cut that a card has run.
#include "comet/formats/w4a16/cuda/gemm_choice.h"

#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <sstream>
#include <tuple>

#include "comet/base/json.h"

namespace comet::formats::w4a16_cuda {
namespace {

using Case = std::tuple<int32_t, int32_t, int32_t>;   // tokens, rows, channels of W
using Cut = std::tuple<int32_t, TileShape, int32_t>;  // tokens of a tile, shape, splits

TileShape shape_of(const std::string& name) {
  return name == "half" ? TileShape::kHalf : name == "alone" ? TileShape::kAlone : TileShape::kTall;
}

std::map<Case, std::map<Cut, double>> read_times() {
  const std::string path = COMET_SOURCE_DIR "/bench/results/h200/2026-11-26-w4a16-wgmma-plans.json";
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  std::map<Case, std::map<Cut, double>> cases;
  const Json json = parse_json(text.str(), path).value();
  for (const Json& row : json.at("rows")) {
    const Cut cut{row[3], shape_of(row[4].get<std::string>()), row[5]};
    cases[{row[0], row[1], row[2]}][cut] = row[6].get<double>();
  }
  return cases;
}

TEST(W4a16Choice, IsTheShortestOfWhatWasMeasured) {
  int num_checked = 0;
  for (const auto& [shape, times] : read_times()) {
    const auto& [tokens, n, k] = shape;
    const GemmPlan plan = measured_plan(tokens, n, k, 132);
    if (tokens > 64) {
      EXPECT_EQ(plan.tile_tokens, 0);
      continue;
    }
    double best = 1e9;
    for (const auto& [cut, us] : times) best = std::min(best, us);
    const auto chosen = times.find({plan.tile_tokens, plan.shape, plan.num_splits});
    ASSERT_NE(chosen, times.end()) << tokens << " x " << n << " x " << k;
    EXPECT_EQ(chosen->second, best) << tokens << " x " << n << " x " << k;
    ++num_checked;
  }
  EXPECT_GE(num_checked, 16);
}

TEST(W4a16Choice, FewerRowsTakeTheCutOfTheirTile) {
  const GemmPlan of_64 = measured_plan(64, 28672, 4096, 132);
  const GemmPlan of_40 = measured_plan(40, 28672, 4096, 132);
  EXPECT_EQ(of_40.tile_tokens, 64);
  EXPECT_EQ(of_40.shape, of_64.shape);
  EXPECT_EQ(of_40.num_splits, of_64.num_splits);
  const GemmPlan of_16 = measured_plan(16, 28672, 4096, 132);
  const GemmPlan of_1 = measured_plan(1, 28672, 4096, 132);
  EXPECT_EQ(of_1.tile_tokens, 8);
  EXPECT_EQ(of_1.shape, of_16.shape);
  EXPECT_EQ(of_1.num_splits, of_16.num_splits);
}

TEST(W4a16Choice, NothingIsSaidOfOtherCardsAndShapes) {
  EXPECT_EQ(measured_plan(16, 28672, 4096, 114).tile_tokens, 0);
  EXPECT_EQ(measured_plan(16, 28672, 4224, 132).tile_tokens, 0);
  EXPECT_EQ(measured_plan(65, 28672, 4096, 132).tile_tokens, 0);
}

}  // namespace
}  // namespace comet::formats::w4a16_cuda
