#include "comet/quant/blocks/block_planner.h"

#include <gtest/gtest.h>

#include <cmath>

#include "comet/quant/blocks/simulated_input.h"
#include "comet/quant/blocks/site_candidates.h"
#include "comet/quant/fmpq/activation_rows.h"
#include "comet/quant/fmpq/permutation.h"
#include "support/temporary_folder.h"
#include "support/tiny_llama.h"

namespace comet::quant {
namespace {

using formats::ActScale;
using testing::TinyModel;

TEST(SimulatedRows, AreWhatTheStoredCodesStandFor) {
  auto runtime = Runtime::cpu(detect_cpu_isa(), 1);
  ThreadPool& pool = runtime->context().pool;
  Matrix x = testing::random_matrix(7, 384, 3);
  for (int64_t t = 0; t < x.rows; ++t) x.row(t)[5] *= 30.0F;
  std::vector<float> p999(384, 1.0F);
  p999[5] = 30.0F;
  for (const ActScale scale : {ActScale::kS1, ActScale::kS2, ActScale::kS2h}) {
    for (const int64_t int8_blocks : {0, 1, 3}) {
      const auto layout = make_site_layout("site", p999, int8_blocks, scale, true);
      const Matrix back = simulated_rows(pool, layout, x.view());
      // Stored and rotated again, they must be the codes; that the codes are right is
      // activation_rows_test's part.
      const Matrix want = quantized_rows(pool, layout, stored_rows(pool, layout, x.view()));
      const Matrix got = stored_rows(pool, layout, back.view());
      for (size_t i = 0; i < got.values.size(); ++i) {
        ASSERT_NEAR(got.values[i], want.values[i], 1e-4) << i;
      }
    }
  }
}

TEST(SimulatedRows, GiveTheProductOfQuantizedStoredOperands) {
  auto runtime = Runtime::cpu(detect_cpu_isa(), 2);
  ThreadPool& pool = runtime->context().pool;
  const Matrix x = testing::random_matrix(3, 300, 5);  // padded to 384
  const Matrix weight = testing::random_matrix(4, 300, 6);
  const std::vector<float> p999(300, 1.0F);
  const auto layout = make_site_layout("site", p999, 1, ActScale::kS2h, true);
  const Matrix quantized = quantized_rows(pool, layout, stored_rows(pool, layout, x.view()));
  // The weight in stored space is its rows treated like activations: gathered and rotated.
  const Matrix stored_weight = stored_rows(pool, layout, weight.view());
  const Matrix back = simulated_rows(pool, layout, x.view());
  for (int64_t t = 0; t < x.rows; ++t) {
    for (int64_t n = 0; n < weight.rows; ++n) {
      double want = 0.0;
      double got = 0.0;
      for (int64_t c = 0; c < layout.k_padded; ++c) {
        want += double{quantized.row(t)[c]} * stored_weight.row(n)[c];
      }
      for (int64_t c = 0; c < 300; ++c) got += double{back.row(t)[c]} * weight.row(n)[c];
      EXPECT_NEAR(got, want, 1e-4);
    }
  }
}

TEST(SiteCandidates, CountsReachFromNoneToAll) {
  EXPECT_EQ(candidate_counts(1), (std::vector<int64_t>{0, 1}));
  EXPECT_EQ(candidate_counts(3), (std::vector<int64_t>{0, 1, 2, 3}));
  EXPECT_EQ(candidate_counts(14), (std::vector<int64_t>{0, 1, 2, 3, 4, 6, 8, 12, 14}));
  const std::vector<int64_t> many = candidate_counts(224);
  EXPECT_EQ(many.back(), 224);
  EXPECT_LT(many.size(), 20U);
  EXPECT_EQ(interpolated({0, 1, 4}, {8.0, 4.0, 1.0}), (std::vector<double>{8, 4, 3, 2, 1}));
  EXPECT_EQ(interpolated({0}, {2.0}), std::vector<double>{2.0});
}

class BlockPlannerTest : public ::testing::Test {
 protected:
  /// The tiny model with large channels in front of layer 1's gate and up.
  void SetUp() override {
    auto tensors = testing::tiny_tensors(testing::tiny_model_config(TinyModel::kLlama));
    for (auto& [name, tensor] : tensors) {
      if (name != "model.layers.1.post_attention_layernorm.weight") continue;
      for (const int64_t c : {3, 70, 150}) tensor.data<BFloat16>()[c] = to_bfloat16(12.0F);
    }
    testing::write_tiny_checkpoint(folder_.file("model"), TinyModel::kLlama, tensors);
    options_ = options_of_recipe("paper", "auto", false).value();
    options_.equalize = false;
  }
  Result<BlockPlan> plan(BlockRule rule, double share, int num_threads = 1) {
    auto runtime = Runtime::cpu(detect_cpu_isa(), num_threads);
    const auto checkpoint = io::Checkpoint::open(folder_.file("model")).value();
    options_.int8_rule = rule;
    options_.int8_share = share;
    int64_t num_layers = 0;
    auto planned = plan_blocks(runtime->context(), checkpoint, options_,
                               testing::random_samples(4, 24, 9), [&](int64_t) {
                                 ++num_layers;
                                 return Status();
                               });
    EXPECT_TRUE(num_layers == 2 || rule == BlockRule::kFixed || share == 0.0 || share == 1.0);
    return planned;
  }
  static double share_of(const BlockPlan& plan) {
    const auto shapes = layer_shapes(testing::tiny_model_config(TinyModel::kLlama));
    double int8 = 0.0;
    double all = 0.0;
    for (const SiteBlocks& layer : plan.layers) {
      for (size_t i = 0; i < kNumSites; ++i) {
        int8 += static_cast<double>(shapes[i].rows * layer[i]);
        all += static_cast<double>(shapes[i].rows * shapes[i].num_blocks());
      }
    }
    return int8 / all;
  }

  testing::TemporaryFolder folder_;
  QuantizeOptions options_;
};

TEST_F(BlockPlannerTest, SpendsTheShareWhereTheOutliersAre) {
  constexpr size_t kGateUp = static_cast<size_t>(Site::kGateUpIn);
  for (const BlockRule rule : {BlockRule::kError, BlockRule::kKl}) {
    constexpr double kShare = 0.2;
    const BlockPlan chosen = plan(rule, kShare).value();
    ASSERT_EQ(chosen.layers.size(), 2U);
    EXPECT_LE(share_of(chosen), kShare);
    EXPECT_GT(share_of(chosen), kShare - 600.0 / 6368.0);  // less than the dearest block is left
    EXPECT_GT(chosen.layers[1][kGateUp], chosen.layers[0][kGateUp]) << block_rule_name(rule);
  }
}

TEST_F(BlockPlannerTest, SamePlanForAnyNumberOfThreads) {
  for (const BlockRule rule : {BlockRule::kError, BlockRule::kKl}) {
    EXPECT_EQ(plan(rule, 0.3, 1)->layers, plan(rule, 0.3, 3)->layers);
  }
}

TEST_F(BlockPlannerTest, BothEndsAreFixed) {
  for (const BlockRule rule : {BlockRule::kFixed, BlockRule::kError, BlockRule::kKl}) {
    EXPECT_EQ(share_of(plan(rule, 0.0).value()), 0.0);
    EXPECT_EQ(share_of(plan(rule, 1.0).value()), 1.0);
  }
}

TEST_F(BlockPlannerTest, AnErrorOfTheCallerEndsIt) {
  auto runtime = Runtime::cpu(detect_cpu_isa(), 1);
  const auto checkpoint = io::Checkpoint::open(folder_.file("model")).value();
  options_.int8_rule = BlockRule::kError;
  options_.int8_share = 0.5;
  const auto stop = [](int64_t) -> Status { return make_error(ErrorCode::kIo, "stop"); };
  const auto planned = plan_blocks(runtime->context(), checkpoint, options_,
                                   testing::random_samples(2, 10, 1), stop);
  ASSERT_FALSE(planned.ok());
  EXPECT_EQ(planned.error().message, "stop");
}

TEST_F(BlockPlannerTest, PlansSurviveJsonAndDamagedOnesAreRefused) {
  const auto checkpoint = io::Checkpoint::open(folder_.file("model")).value();
  const BlockPlan made = plan(BlockRule::kFixed, 0.5).value();
  const Json json = block_plan_json(made);
  EXPECT_EQ(block_plan_from_json(json, checkpoint)->layers, made.layers);
  for (const char* text :
       {"null", "[]", "[[0,0,0,0]]", "[[0,0,0,0],[0,0,0]]", "[[0,0,0,0],[0,0,0,4]]",
        "[[0,0,0,0],[0,0,0,-1]]", "[[0,0,0,0],[0,0,0,\"1\"]]"}) {
    EXPECT_FALSE(block_plan_from_json(Json::parse(text), checkpoint).ok()) << text;
  }
}

TEST(PlanningSamples, AreEvenlySpacedAndAtLeastOne) {
  CalibrationSet set;
  for (int32_t i = 0; i < 8; ++i) set.samples.emplace_back(10, i);
  const CalibrationSet some = planning_samples(set, 40);
  ASSERT_EQ(some.samples.size(), 4U);
  EXPECT_EQ(some.samples[0][0], 0);
  EXPECT_EQ(some.samples[3][0], 6);
  EXPECT_EQ(planning_samples(set, 5).samples.size(), 1U);
  EXPECT_EQ(planning_samples(set, 1000).samples.size(), 8U);
}

TEST(BlockRules, NeedAShareAndSortedChannels) {
  const io::ModelConfig config = testing::tiny_model_config(TinyModel::kLlama);
  QuantizeOptions options = options_of_recipe("fmpq", "auto", false).value();
  options.int8_rule = BlockRule::kError;
  EXPECT_NE(check_options(options, config).error().message.find("--int8-share"), std::string::npos);
  options.int8_share = 0.3;
  EXPECT_TRUE(check_options(options, config).ok());
  options.int8_share = std::nan("");
  EXPECT_FALSE(check_options(options, config).ok());
  QuantizeOptions naive = options_of_recipe("naive", "auto", false).value();
  naive.int8_rule = BlockRule::kKl;
  naive.int8_share = 0.3;
  EXPECT_NE(check_options(naive, config).error().message.find("unsorted"), std::string::npos);
}

}  // namespace
}  // namespace comet::quant
