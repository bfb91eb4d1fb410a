#include "comet/quant/smooth/site_smoothing.h"

#include <gtest/gtest.h>

#include "support/tiny_llama.h"

namespace comet::quant {
namespace {

/// Layer 1 with its statistics and inputs.
class SiteSmoothingTest : public ::testing::TestWithParam<testing::TinyModel> {
 protected:
  SiteSmoothingTest()
      : config_(testing::tiny_model_config(GetParam())),
        runtime_(Runtime::cpu(detect_cpu_isa(), 2)),
        source_(testing::memory_source(testing::tiny_tensors(config_))),
        set_(testing::random_samples(3, 30, 4)),
        hidden_(embed_samples(runtime_->context(), source_, config_, set_).value()),
        options_(options_of_recipe("w8a8-int", "cpu", false).value()) {
    options_.smooth_keys = false;
  }
  LayerStage stage() {
    return {*backend_, options_, config_,
            set_,      hidden_,  load_layer_weights(source_, config_, 1).value()};
  }
  Matrix output_of(const LayerWeights& layer) {
    Matrix hidden = hidden_;
    const models::LlamaLayer bound = bind_float_layer(layer, config_, runtime_->context()).value();
    run_layer(*backend_, bound, {config_, set_, kv::kv32_format()}, hidden, true).value();
    return hidden;
  }

  io::ModelConfig config_;
  std::unique_ptr<Runtime> runtime_;
  std::unique_ptr<Backend> backend_ = make_cpu_backend(runtime_->context());
  models::MemorySource source_;
  CalibrationSet set_;
  Matrix hidden_;
  QuantizeOptions options_;
};

INSTANTIATE_TEST_SUITE_P(Families, SiteSmoothingTest,
                         ::testing::Values(testing::TinyModel::kLlama, testing::TinyModel::kBiases,
                                           testing::TinyModel::kQwen2, testing::TinyModel::kQwen3));

TEST_P(SiteSmoothingTest, TheNetworkStaysTheSame) {
  for (const double strength : {0.3, 0.8}) {
    options_.smoothing = Smoothing::kFixed;
    options_.smoothing_strength = strength;
    LayerStage smoothed = stage();
    const LayerWeights original = smoothed.layer;
    ASSERT_TRUE(fold_and_measure(smoothed).ok());
    for (size_t i = 0; i < kNumSites; ++i) {
      EXPECT_EQ(smoothed.smoothing[i], strength);
      EXPECT_NE(smoothed.layer.weights[i].values, original.weights[i].values);
    }
    const Matrix got = output_of(smoothed.layer);
    const Matrix want = output_of(original);
    float largest = 0.0F;
    for (const float x : want.values) largest = std::max(largest, std::fabs(x));
    for (size_t i = 0; i < got.values.size(); ++i) {
      ASSERT_NEAR(got.values[i], want.values[i], 1e-5F * largest) << i;
    }
  }
}

TEST_P(SiteSmoothingTest, StatisticsAndInputsAreWhatASecondPassWouldGive) {
  options_.smoothing = Smoothing::kFixed;
  LayerStage smoothed = stage();
  smoothed.keep_inputs = true;
  ASSERT_TRUE(fold_and_measure(smoothed).ok());
  LayerStage again{*backend_, options_, config_, set_, hidden_, smoothed.layer};
  options_.smoothing = Smoothing::kOff;
  again.keep_inputs = true;
  ASSERT_TRUE(fold_and_measure(again).ok());
  for (size_t i = 0; i < kNumSites; ++i) {
    for (size_t c = 0; c < again.stats[i].absmax.size(); ++c) {
      ASSERT_NEAR(smoothed.stats[i].absmax[c], again.stats[i].absmax[c],
                  1e-5F * again.stats[i].absmax[c] + 1e-7F);
    }
    const std::vector<float> want = backend_->download(again.inputs.rows(i)).values;
    const std::vector<float> got = backend_->download(smoothed.inputs.rows(i)).values;
    for (size_t j = 0; j < want.size(); ++j) {
      ASSERT_NEAR(got[j], want[j], 2e-5F * (std::fabs(want[j]) + 0.1F));
    }
  }
}

TEST_P(SiteSmoothingTest, NormsKeepTheirStoredType) {
  LayerStage smoothed = stage();
  const std::vector<std::vector<float>> before = smoothed.layer.norms;
  options_.smoothing = Smoothing::kFixed;
  ASSERT_TRUE(fold_and_measure(smoothed).ok());
  for (size_t i = 0; i < before.size(); ++i) {
    if (i < 2) {
      EXPECT_NE(smoothed.layer.norms[i], before[i]);
    } else {
      EXPECT_EQ(smoothed.layer.norms[i], before[i]);  // of q and k
    }
    for (const float x : smoothed.layer.norms[i]) EXPECT_EQ(to_float(to_bfloat16(x)), x);
  }
}

TEST_P(SiteSmoothingTest, QueryHeadsOfAKvHeadShareAFactor) {
  options_.smoothing = Smoothing::kFixed;
  LayerStage smoothed = stage();
  const LayerWeights original = smoothed.layer;
  ASSERT_TRUE(fold_and_measure(smoothed).ok());
  const auto factor = [&](int64_t c) {
    return smoothed.layer.weight(Site::kOIn).row(0)[c] / original.weight(Site::kOIn).row(0)[c];
  };
  for (int64_t c = 0; c < 32; ++c) EXPECT_NEAR(factor(c), factor(32 + c), 1e-5F * factor(c));
  EXPECT_GT(std::fabs(factor(0) - factor(64)) + std::fabs(factor(1) - factor(65)), 1e-3F);
}

TEST_P(SiteSmoothingTest, SearchIsRepeatable) {
  LayerStage first = stage();
  LayerStage second = stage();
  ASSERT_TRUE(fold_and_measure(first).ok());
  ASSERT_TRUE(fold_and_measure(second).ok());
  EXPECT_EQ(first.smoothing, second.smoothing);
  for (size_t i = 0; i < kNumSites; ++i) {
    EXPECT_EQ(first.layer.weights[i].values, second.layer.weights[i].values);
  }
}

}  // namespace
}  // namespace comet::quant
