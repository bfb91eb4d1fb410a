// Recipes, the learning rate, and what is drawn for a batch.
#include "comet/train/recipe/recipe.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "comet/train/recipe/mixing.h"
#include "comet/train/recipe/schedule.h"

namespace comet::train {
namespace {

TEST(Recipe, IsReadWithDefaultsAndWrittenBack) {
  const Json json = {{"architecture", "inception_next_tiny"},
                     {"lr", 0.002},
                     {"epochs", 7},
                     {"mixer", "7x7"},
                     {"seed", 5}};
  const auto recipe = parse_recipe(json, "r.json");
  ASSERT_TRUE(recipe.ok()) << recipe.error().message;
  EXPECT_EQ(recipe->lr, 0.002);
  EXPECT_EQ(recipe->epochs, 7);
  EXPECT_EQ(recipe->weight_decay, 0.05);
  EXPECT_EQ(network_of(*recipe, 10)->depthwise_kernel, 7);
  const auto again = parse_recipe(Json::parse(to_json(*recipe).dump()), "again");
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(recipe_difference(*again, *recipe), "");
  Recipe other = *recipe;
  other.lr = 0.5;
  other.mixer = "";
  EXPECT_EQ(recipe_difference(other, *recipe), "mixer is \"\", was \"7x7\"; lr is 0.5, was 0.002");
}

TEST(Recipe, ErrorsNameTheField) {
  const auto message = [](const Json& json) {
    const auto recipe = parse_recipe(json, "r.json");
    return recipe ? std::string() : recipe.error().message;
  };
  EXPECT_NE(message({{"learning_rate", 1}}).find("'learning_rate' is unknown"), std::string::npos);
  EXPECT_NE(message({{"lr", "high"}}).find("lr"), std::string::npos);
  EXPECT_NE(message({{"epochs", 0}}).find("epochs"), std::string::npos);
  EXPECT_NE(message({{"mixer", "4x4"}}).find("mixer is '4x4'"), std::string::npos);
  EXPECT_NE(message({{"scale_low", 0.9}, {"scale_high", 0.5}}).find("scale 0.9 to 0.5"),
            std::string::npos);
  EXPECT_NE(message({{"rand_augment", "rand-q9"}}).find("rand_augment"), std::string::npos);
  EXPECT_NE(message(Json::array()).find("object"), std::string::npos);
  EXPECT_EQ(message(Json::object()), "");
  Recipe recipe;
  recipe.architecture = "convnext_tiny";
  recipe.mixer = "3x3";
  EXPECT_FALSE(network_of(recipe, 10).ok());
}

TEST(Schedule, WarmsUpAndFollowsACosine) {
  Recipe recipe;
  recipe.epochs = 10;
  recipe.warmup_epochs = 2;
  recipe.lr = 1.0;
  recipe.warmup_lr = 0.1;
  recipe.min_lr = 0.01;
  EXPECT_DOUBLE_EQ(learning_rate(recipe, 0, 5), 0.1);
  EXPECT_DOUBLE_EQ(learning_rate(recipe, 5, 5), 0.55);
  EXPECT_DOUBLE_EQ(learning_rate(recipe, 10, 5), 1.0);
  EXPECT_NEAR(learning_rate(recipe, 30, 5), 0.505, 1e-12);
  EXPECT_NEAR(learning_rate(recipe, 50, 5), 0.01, 1e-12);
  EXPECT_NEAR(learning_rate(recipe, 60, 5), 0.01, 1e-12);
}

TEST(Mixing, DrawsWhatTheRecipeSays) {
  Recipe recipe;
  recipe.image_size = 64;
  Rng rng(1);
  EXPECT_EQ(draw_mix(recipe, rng).share, 1.0);
  recipe.mixup = 0.5;
  recipe.cutmix = 1.0;
  recipe.mixup_prob = 0.8;
  int64_t num_mixup = 0;
  int64_t num_cut = 0;
  double sum = 0;
  double squares = 0;
  constexpr int kDraws = 20000;
  for (int i = 0; i < kDraws; ++i) {
    const Mix mix = draw_mix(recipe, rng);
    ASSERT_TRUE(mix.share >= 0 && mix.share <= 1);
    const int64_t area = (mix.input.bottom - mix.input.top) * (mix.input.right - mix.input.left);
    if (mix.input.mixup_share < 1) {
      ++num_mixup;
      ASSERT_EQ(area, 0);
      sum += mix.share;
      squares += mix.share * mix.share;
    } else if (area > 0) {
      ++num_cut;
      ASSERT_DOUBLE_EQ(mix.share, 1 - static_cast<double>(area) / 4096);
    }
  }
  EXPECT_NEAR(num_mixup, 0.4 * kDraws, 0.02 * kDraws);
  EXPECT_NEAR(num_cut, 0.4 * kDraws, 0.02 * kDraws);
  const double mean = sum / static_cast<double>(num_mixup);
  EXPECT_NEAR(mean, 0.5, 0.02);
  EXPECT_NEAR(squares / static_cast<double>(num_mixup) - mean * mean, 0.125, 0.01);  // Beta(½, ½)
}

TEST(Mixing, TargetsAreSmoothedAndShared) {
  const std::vector<int32_t> labels{2, 0, 1, 2};
  const auto targets = soft_targets(labels, 3, 0.3, 0.75);
  const std::vector<float> expected{0.1F,   0.1F,   0.8F, 0.625F, 0.275F, 0.1F,
                                    0.275F, 0.625F, 0.1F, 0.1F,   0.1F,   0.8F};
  ASSERT_EQ(targets.size(), expected.size());
  for (size_t i = 0; i < targets.size(); ++i) EXPECT_FLOAT_EQ(targets[i], expected[i]) << i;
}

TEST(Mixing, DropPathRisesAndKeepsTheMean) {
  Rng rng(3);
  constexpr int64_t kImages = 20000;
  const auto keep = draw_keep(3, kImages, 0.4, rng);
  for (size_t block = 0; block < 3; ++block) {
    const auto begin = keep.begin() + static_cast<int64_t>(block) * kImages;
    const double mean = std::accumulate(begin, begin + kImages, 0.0) / kImages;
    EXPECT_NEAR(mean, 1.0, block == 0 ? 0 : 0.02);
    EXPECT_NEAR(static_cast<double>(std::count(begin, begin + kImages, 0.0F)) / kImages,
                0.2 * static_cast<double>(block), 0.01);
  }
}

}  // namespace
}  // namespace comet::train
