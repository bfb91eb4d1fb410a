#include "comet/quant/layer/site_inputs.h"

#include <gtest/gtest.h>

#include "comet/quant/layer/layer_stage.h"
#include "support/tiny_llama.h"

namespace comet::quant {
namespace {

/// Every 16th channel of qkv_in and down_in is large and its weight column small, so that the
/// equalizer has work.
testing::NamedTensors outlier_tensors(const io::ModelConfig& config) {
  constexpr float kFactor = 8.0F;
  testing::NamedTensors tensors = testing::tiny_tensors(config);
  for (auto& [name, tensor] : tensors) {
    const bool large = name.ends_with("input_layernorm.weight") || name.ends_with("up_proj.weight");
    const bool small = name.ends_with("q_proj.weight") || name.ends_with("k_proj.weight") ||
                       name.ends_with("v_proj.weight") || name.ends_with("down_proj.weight");
    const int64_t cols = tensor.shape().rank() == 2 ? tensor.size(1) : 1;
    for (int64_t i = 0; i < tensor.num_elements(); ++i) {
      const int64_t channel = small ? i % cols : i / cols;
      if ((!large && !small) || channel % 16 != 0) continue;
      BFloat16& value = tensor.data<BFloat16>()[i];
      value = to_bfloat16(to_float(value) * (large ? kFactor : 1.0F / kFactor));
    }
  }
  return tensors;
}

TEST(SiteInputs, AreWhatASecondPassWouldGive) {
  const io::ModelConfig config = testing::tiny_model_config(testing::TinyModel::kLlama);
  const auto tensors = outlier_tensors(config);
  const auto source = testing::memory_source(tensors);
  auto runtime = Runtime::cpu(detect_cpu_isa(), 1);
  Context& ctx = runtime->context();
  const auto backend = make_cpu_backend(ctx);
  const CalibrationSet set = testing::random_samples(3, 30, 4);
  for (const bool rotate_values : {false, true}) {
    QuantizeOptions options = options_of_recipe("fmpq", "cpu", false).value();
    options.rotate_values = rotate_values;
    Matrix hidden = embed_samples(ctx, source, config, set).value();
    LayerStage stage{*backend, options, config,
                     set,      hidden,  load_layer_weights(source, config, 0).value()};
    stage.keep_inputs = SiteInputs::fit(config, set.num_tokens());
    ASSERT_TRUE(stage.keep_inputs);
    ASSERT_TRUE(fold_and_measure(stage).ok());
    EXPECT_GT(stage.num_equalized[0], 0);
    EXPECT_GT(stage.num_equalized[3], 0);
    std::array<std::vector<float>, kNumSites> again;
    const Status observed = observe_sites(stage, [&](size_t i, ConstRows rows) {
      const Matrix copy = backend->download(rows);
      again[i].insert(again[i].end(), copy.values.begin(), copy.values.end());
      return Status();
    });
    ASSERT_TRUE(observed.ok());
    for (size_t i = 0; i < kNumSites; ++i) {
      EXPECT_EQ(backend->download(stage.inputs.rows(i)).values, again[i]) << i;
    }
  }
}

TEST(SiteInputs, FollowFoldings) {
  LayerWeights layer;
  for (auto& spec : layer.specs) spec.k = 3;
  auto runtime = Runtime::cpu(detect_cpu_isa(), 2);
  const auto backend = make_cpu_backend(runtime->context());
  SiteInputs inputs;
  inputs.reset(*backend, layer, 2);
  const std::vector<float> rows{1.0F, 2.0F, 3.0F, 4.0F, 5.0F, 6.0F};
  inputs.append(1, View<const float, 2>{rows.data(), {2, 3}});
  inputs.scale(1, std::array{2.0F, 1.0F, 0.5F});
  inputs.permute(1, std::array<int32_t, 3>{2, 0, 1});
  EXPECT_EQ(backend->download(inputs.rows(1)).values,
            (std::vector<float>{6.0F, 0.5F, 2.0F, 12.0F, 2.0F, 5.0F}));
  inputs.drop(1);
  EXPECT_TRUE(inputs.rows(1).empty());
}

TEST(SiteInputs, LargeTextsAreNotKept) {
  const io::ModelConfig config = testing::tiny_model_config(testing::TinyModel::kLlama);
  const int64_t row_bytes = 4 * (192 + 256 + 192 + 300);
  const int64_t most = SiteInputs::kMaxBytes / row_bytes;
  EXPECT_EQ(SiteInputs::bytes(config, most), most * row_bytes);
  EXPECT_FALSE(SiteInputs::fit(config, most + 1));
}

}  // namespace
}  // namespace comet::quant
