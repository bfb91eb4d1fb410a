#include "comet/quant/layer/layer_weights.h"

#include <gtest/gtest.h>

#include <limits>
#include <numeric>

#include "comet/quant/fmpq/permutation.h"
#include "comet/quant/layer/calibration.h"
#include "comet/quant/layer/key_smoothing.h"
#include "support/tiny_llama.h"

namespace comet::quant {
namespace {

class LayerWeightsTest : public ::testing::TestWithParam<testing::TinyModel> {
 protected:
  LayerWeightsTest()
      : config_(testing::tiny_model_config(GetParam())),
        runtime_(Runtime::cpu(detect_cpu_isa(), 2)),
        set_(testing::random_samples(3, 20, 1)) {
    source_ = testing::memory_source(testing::tiny_tensors(config_));
  }

  Matrix output_of(const LayerWeights& layer) {
    Matrix hidden = embed_samples(runtime_->context(), source_, config_, set_).value();
    const models::LlamaLayer bound = bind_float_layer(layer, config_, runtime_->context()).value();
    const LayerRun run{config_, set_, kv::kv32_format()};
    run_layer(*make_cpu_backend(runtime_->context()), bound, run, hidden, true).value();
    return hidden;
  }

  void expect_same_function(const LayerWeights& changed, const LayerWeights& original) {
    const Matrix got = output_of(changed);
    const Matrix want = output_of(original);
    float largest = 0.0F;
    for (const float x : want.values) largest = std::max(largest, std::fabs(x));
    for (size_t i = 0; i < got.values.size(); ++i) {
      ASSERT_NEAR(got.values[i], want.values[i], 1e-5F * largest) << i;
    }
  }

  io::ModelConfig config_;
  std::unique_ptr<Runtime> runtime_;
  CalibrationSet set_;
  models::MemorySource source_;
};

INSTANTIATE_TEST_SUITE_P(Families, LayerWeightsTest,
                         ::testing::Values(testing::TinyModel::kLlama, testing::TinyModel::kBiases,
                                           testing::TinyModel::kQwen2, testing::TinyModel::kQwen3));

TEST_P(LayerWeightsTest, FoldedScalesKeepTheFunction) {
  const LayerWeights original = load_layer_weights(source_, config_, 1).value();
  LayerWeights layer = original;
  for (const Site site : kSites) {
    std::vector<float> scales(layer.spec(site).k);
    for (size_t c = 0; c < scales.size(); ++c) scales[c] = 0.3F + 0.7F * static_cast<float>(c % 5);
    if (site == Site::kOIn) {  // query heads 2j and 2j + 1 share KV head j
      for (size_t c = 0; c < scales.size(); ++c) {
        scales[c] = 0.4F + 0.9F * static_cast<float>((c / 64 * 32 + c % 32) % 4);
      }
    }
    fold_scales(layer, site, scales);
    EXPECT_NE(layer.weight(site).values, original.weight(site).values);
  }
  expect_same_function(layer, original);
}

TEST_P(LayerWeightsTest, OneScalePerSharedValueRow) {
  LayerWeights layer = load_layer_weights(source_, config_, 0).value();
  std::vector<float> scales(256, 1.0F);
  scales[0] = 2.0F;  // head 0 only; head 1 reads the same V row
  EXPECT_THROW(fold_scales(layer, Site::kOIn, scales), CheckError);
}

TEST_P(LayerWeightsTest, PermutedFfnKeepsTheFunction) {
  const LayerWeights original = load_layer_weights(source_, config_, 0).value();
  LayerWeights layer = original;
  std::vector<int32_t> order(config_.intermediate_size);
  std::iota(order.rbegin(), order.rend(), 0);
  std::swap(order[3], order[200]);
  permute_ffn_rows(layer, order);
  Matrix& down = layer.weight(Site::kDownIn);
  for (int64_t n = 0; n < down.rows; ++n) {
    for (int64_t c = 0; c < down.cols; ++c) {
      down.row(n)[c] = original.weight(Site::kDownIn).row(n)[order[c]];
    }
  }
  expect_same_function(layer, original);
}

TEST_P(LayerWeightsTest, SmoothedKeysKeepTheFunctionAndBalance) {
  const LayerWeights original = load_layer_weights(source_, config_, 0).value();
  LayerWeights layer = original;
  const Matrix hidden = embed_samples(runtime_->context(), source_, config_, set_).value();
  const auto scales = [&](const LayerWeights& of) {
    const models::LlamaLayer bound = bind_float_layer(of, config_, runtime_->context()).value();
    return key_scales(*make_cpu_backend(runtime_->context()), bound, config_, set_, hidden);
  };
  std::vector<float> uneven(scales(layer).size());
  for (size_t i = 0; i < uneven.size(); ++i) uneven[i] = 0.3F + 0.1F * static_cast<float>(i % 9);
  fold_key_scales(layer, uneven);
  expect_same_function(layer, original);
  fold_key_scales(layer, scales(layer));
  expect_same_function(layer, original);
  for (const float lambda : scales(layer)) EXPECT_NEAR(lambda, 1.0F, 1e-4F);
}

TEST_P(LayerWeightsTest, RotatedValuesKeepTheFunction) {
  const LayerWeights original = load_layer_weights(source_, config_, 1).value();
  LayerWeights layer = original;
  fold_value_rotation(layer);
  EXPECT_NE(layer.weight(Site::kOIn).values, original.weight(Site::kOIn).values);
  expect_same_function(layer, original);
}

TEST_P(LayerWeightsTest, NonFiniteWeightNamesTheTensor) {
  auto tensors = testing::tiny_tensors(config_);
  for (auto& [name, tensor] : tensors) {
    if (name == "model.layers.1.mlp.up_proj.weight") {
      tensor.data<BFloat16>()[77] = to_bfloat16(std::numeric_limits<float>::quiet_NaN());
    }
  }
  const auto layer = load_layer_weights(testing::memory_source(tensors), config_, 1);
  ASSERT_FALSE(layer.ok());
  EXPECT_NE(layer.error().message.find("model.layers.1.mlp.up_proj.weight"), std::string::npos);
  EXPECT_NE(layer.error().message.find("77"), std::string::npos);
}

TEST(Calibration, WindowsAreEvenlySpacedAndLeaveTheLastTenth) {
  std::vector<std::vector<int32_t>> documents(20);
  int32_t next = 0;
  for (auto& document : documents) {
    for (int i = 0; i < 10; ++i) document.push_back(next++);
  }
  const auto set = cut_calibration_windows(documents, 4, 30);  // of 180 tokens
  ASSERT_TRUE(set.ok());
  ASSERT_EQ(set->samples.size(), 4U);
  EXPECT_EQ(set->samples[0].front(), 0);
  EXPECT_EQ(set->samples[1].front(), 50);
  EXPECT_EQ(set->samples[3].back(), 179);
  EXPECT_EQ(cut_calibration_windows(documents, 100, 30)->samples.size(), 6U);
  EXPECT_EQ(cut_calibration_windows(documents, 1, 180)->samples.size(), 1U);
  const auto short_text = cut_calibration_windows(documents, 1, 181);
  ASSERT_FALSE(short_text.ok());
  EXPECT_NE(short_text.error().message.find("180 tokens"), std::string::npos);
  EXPECT_FALSE(cut_calibration_windows({}, 1, 1).ok());
}

TEST(Calibration, TheLastTenthIsHeldBack) {
  const std::vector<int32_t> ten{0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
  const HeldBackSplit many = hold_back_for_gate(Documents(21, ten));
  EXPECT_EQ(many.calibration.size(), 19U);
  EXPECT_EQ(many.gate.size(), 2U);
  const HeldBackSplit few = hold_back_for_gate(Documents(3, ten));  // of 30 tokens, 3
  ASSERT_EQ(few.calibration.size(), 3U);
  ASSERT_EQ(few.gate.size(), 1U);
  EXPECT_EQ(few.gate[0], (std::vector<int32_t>{7, 8, 9}));
  EXPECT_EQ(few.calibration[2].size(), 7U);
  EXPECT_TRUE(hold_back_for_gate({{1, 2, 3}}).gate.empty());
  EXPECT_TRUE(hold_back_for_gate({}).calibration.empty());
}

TEST(Calibration, BadSamplesAreErrors) {
  const io::ModelConfig config = testing::tiny_model_config(testing::TinyModel::kLlama);
  EXPECT_TRUE(check_calibration({{{1, 2, 3}}}, config).ok());
  EXPECT_FALSE(check_calibration({}, config).ok());
  EXPECT_FALSE(check_calibration({{{1}, {}}}, config).ok());
  EXPECT_FALSE(check_calibration({{{1, 160}}}, config).ok());
  EXPECT_FALSE(check_calibration({{{-1}}}, config).ok());
  EXPECT_FALSE(check_calibration({{std::vector<int32_t>(65, 1)}}, config).ok());
}

}  // namespace
}  // namespace comet::quant
