// Synthetic models on a CPU: published shapes, reproducible weights of one spread in every format.
#include <gtest/gtest.h>

#include <cmath>
#include <sstream>

#include "comet/models/synthetic/random_tensors.h"
#include "support/last_logits.h"

namespace comet::models {
namespace {

TEST(Synthetic, EveryNameHasAConfigThatParses) {
  std::stringstream names(synthetic_names());
  int num_names = 0;
  for (std::string name; std::getline(names >> std::ws, name, ','); ++num_names) {
    for (const char* format : {"dense", "w4ax", "w4a16", "w8a8-int", "w8a8-fp8"}) {
      SyntheticOptions options;
      options.format = format;
      options.kv = "kv8";
      const auto json = synthetic_config_json(name, options);
      ASSERT_TRUE(json.ok()) << json.error().message;
      const auto config = io::parse_model_config(*json, name);
      ASSERT_TRUE(config.ok()) << config.error().message;
      const auto parsed = parse_model_format(*config, name);
      ASSERT_TRUE(parsed.ok()) << parsed.error().message;
      EXPECT_EQ(parsed->weights->name, format);
      EXPECT_EQ(parsed->kv->name, "kv8");
    }
  }
  EXPECT_EQ(num_names, 9);
}

/// Standard deviation of the values of a linear's weight, whatever its format.
double spread(const formats::QuantizedWeight& weight) {
  const auto rows = weight.num_rows();
  const int64_t k = weight.site.k;
  double sum = 0;
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t i = 0; i < k; ++i) {
      const int code{weight.codes[row * weight.site.k_padded + i]};
      double value = code;
      if (weight.code_type == formats::CodeType::kE4M3) {
        const int mantissa = 8 + (code & 7);  // exponents 6 and 7 of bias 7
        value = std::ldexp(mantissa, (code >> 3 & 15) - 10) * (code < 0 ? -1 : 1);
      }
      const int64_t group = i / formats::kBlock * rows + row;
      if (!weight.group_multiplier.empty()) {
        value = code * weight.group_multiplier[group] + weight.group_offset[group];
      }
      if (!weight.group_scale.empty()) value *= weight.group_scale[group];
      if (!weight.channel_scale.empty()) value *= weight.channel_scale[row];
      sum += value * value;
    }
  }
  return std::sqrt(sum / static_cast<double>(rows * k));
}

TEST(Synthetic, WeightsOfEveryFormatHaveOneSpread) {
  auto runtime = Runtime::cpu(detect_cpu_isa(), 2);
  Context& ctx = runtime->context();
  for (const char* format : {"w4ax", "w4a16", "w8a8-int", "w8a8-fp8"}) {
    for (const auto granularity : {formats::Granularity::kChannel, formats::Granularity::kGroup,
                                   formats::Granularity::kProgressive}) {
      SCOPED_TRACE(format);
      SyntheticOptions options;
      options.format = format;
      options.granularity = granularity;
      options.seed = 3;
      const Json json = synthetic_config_json("110m", options).value();
      const auto config = io::parse_model_config(json, "110m").value();
      const RandomTensors tensors(ctx, config, options);
      const auto layer = LlamaLayer::load(config, 1, parse_model_format(config, "110m").value(),
                                          tensors, ctx.caps);
      ASSERT_TRUE(layer.ok()) << layer.error().message;
      const formats::LinearWeight& weight = layer->gate_up.weight();
      EXPECT_NEAR(spread(weight.format->unpack(weight).value()), 0.02, 0.0005);
    }
  }
}

TEST(Synthetic, SeedsAndNamesDrawDifferentWeights) {
  auto runtime = Runtime::cpu(detect_cpu_isa(), 2);
  const io::ModelConfig config = synthetic_config("110m").value();
  const auto first_draw = [&](uint64_t seed, const std::string& name) {
    SyntheticOptions options;
    options.seed = seed;
    const RandomTensors tensors(runtime->context(), config, options);
    const std::array types{DType::kBF16};
    const Tensor tensor = tensors.get(name, types, {768, 768}).value();
    return std::vector<std::byte>(tensor.raw(), tensor.raw() + tensor.num_bytes());
  };
  const std::string name = "model.layers.0.self_attn.q_proj.weight";
  const auto first = first_draw(0, name);
  EXPECT_EQ(first, first_draw(0, name));
  EXPECT_NE(first, first_draw(1, name));
  EXPECT_NE(first, first_draw(0, "model.layers.1.self_attn.q_proj.weight"));
}

}  // namespace
}  // namespace comet::models
