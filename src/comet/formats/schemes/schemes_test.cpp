// Which scheme a linear gets: targets and ignored modules by name, expression and class, in the
// order that compressed-tensors' match_targets has; GPTQ's and AWQ's own rules; static scales.
#include <gtest/gtest.h>

#include "comet/formats/schemes/bind_linear.h"
#include "comet/formats/schemes/compressed_tensors.h"
#include "comet/formats/schemes/gptq_awq.h"
#include "comet/formats/w8a8/channel_codes.h"
#include "comet/tensor/float8.h"
#include "support/tensor_map.h"

namespace comet::formats {
namespace {

using ::comet::testing::make_tensor;
using ::comet::testing::TensorMap;

TEST(NamePattern, MatchesAsPythonDoes) {
  const auto matches = [](const char* pattern, const char* name) {
    return NamePattern::parse(pattern)->matches(name);
  };
  const char* name = "model.layers.0.mlp.down_proj";
  EXPECT_TRUE(matches("Linear", name));
  EXPECT_TRUE(matches(name, name));
  EXPECT_FALSE(matches("down_proj", name));
  EXPECT_FALSE(matches("LlamaAttention", name));
  EXPECT_TRUE(matches("re:.*down_proj", name));
  EXPECT_TRUE(matches("re:model\\.layers", name));  // from the start, as re.match
  EXPECT_FALSE(matches("re:down_proj", name));
  EXPECT_FALSE(matches("re:.*down$", name));
  EXPECT_TRUE(matches("re:model.layers.(?!1\\b)\\d+", name));
  // Steps are bounded: a hostile expression ends without a match.
  EXPECT_FALSE(matches("re:(.*)*(.*)*(.*)*x$", name));
  for (const char* bad : {"re:(", "re:[", "re:\\", ""}) {
    EXPECT_FALSE(NamePattern::parse(bad).ok()) << bad;
  }
}

Json group_of(const Json& targets, int64_t group_size) {
  return {{"targets", targets},
          {"weights", quantization_arguments(4, "int", "group", group_size)},
          {"input_activations", nullptr}};
}

TEST(SchemeTable, NamesBeforeExpressionsBeforeClasses) {
  Json config = compressed_tensors_manifest("pack-quantized", nullptr, nullptr);
  config["ignore"] = {"lm_head", "re:.*layers\\.9\\."};
  config["config_groups"] = {{"a", group_of({"Linear"}, 128)},
                             {"b", group_of({"re:.*k_proj", "re:.*q_proj"}, 64)},
                             {"c", group_of({"layers.1.q_proj"}, 32)}};
  const auto table = *read_compressed_tensors(config, "config.json");
  EXPECT_EQ(table->find("layers.1.o_proj").group_size, 128);
  EXPECT_EQ(table->find("layers.1.k_proj").group_size, 64);
  EXPECT_EQ(table->find("layers.1.q_proj").group_size, 32);
  EXPECT_EQ(table->find("lm_head").layout, DiskLayout::kDense);
  EXPECT_EQ(table->find("layers.9.q_proj").layout, DiskLayout::kDense);
  LinearSpec spec;
  spec.prefix = "layers.1.";
  spec.parts = {"k_proj", "q_proj"};
  const auto mixed = table->find(spec);
  ASSERT_FALSE(mixed.ok());
  EXPECT_NE(mixed.error().message.find("'layers.1.k_proj' and 'layers.1.q_proj'"),
            std::string::npos)
      << mixed.error().message;
  spec.prefix = "layers.2.";
  EXPECT_EQ(table->find(spec)->group_size, 64);
  config["config_groups"]["a"]["targets"] = {"Conv2d"};  // a class that no linear has
  EXPECT_EQ((*read_compressed_tensors(config, "c"))->find("layers.1.o_proj").layout,
            DiskLayout::kDense);
}

TEST(SchemeTable, AwqLeavesDenseWhatItNames) {
  const auto table = *read_awq({{"quant_method", "awq"},
                                {"w_bit", 4},
                                {"q_group_size", 64},
                                {"modules_to_not_convert", {"layers.1.", "a.b"}}},
                               "config.json");
  EXPECT_EQ(table->find("model.layers.1.q_proj").layout, DiskLayout::kDense);
  EXPECT_EQ(table->find("model.layers.11.q_proj").layout, DiskLayout::kAwq);
  EXPECT_EQ(table->find("model.axb").layout, DiskLayout::kAwq);  // a dot is a dot
  EXPECT_EQ(table->find("model.layers.11.q_proj").group_size, 64);
  EXPECT_EQ(table->find("lm_head").layout, DiskLayout::kDense);
}

/// GPTQ without desc_act has groups of neighbours, whatever some writers put into g_idx.
TEST(SchemeTable, GptqReadsItsIndexOnlyWithDescAct) {
  TensorMap tensors;
  tensors.set("l.o_proj.qweight",
              make_tensor<int32_t>({8, 8}, std::vector<int32_t>(64, 0x12345678)));
  tensors.set("l.o_proj.qzeros", make_tensor<int32_t>({2, 1}, {0x77777777, 0x01234567}));
  tensors.set("l.o_proj.scales", make_tensor<float>({2, 8}, std::vector<float>(16, 0.5F)));
  tensors.set("l.o_proj.g_idx", make_tensor<int32_t>({64}, std::vector<int32_t>(64, 0)));
  LinearSpec spec;
  spec.name = "l.o_proj";
  spec.prefix = "l.";
  spec.parts = {"o_proj"};
  spec.part_rows = {8};
  spec.k = 64;
  Json config = {{"quant_method", "gptq"}, {"bits", 4}, {"group_size", 32}, {"desc_act", false}};
  const auto bind = [&] {
    const ModelScheme scheme = *read_quantization_config(config, "config.json");
    return bind_linear(spec, *scheme.format, scheme.config.get(), tensors);
  };
  const auto bound = bind();
  ASSERT_TRUE(bound.ok()) << bound.error().message;
  const QuantizedWeight weight = *bound->format->unpack(*bound);
  EXPECT_TRUE(weight.site.perm.empty());
  EXPECT_EQ(weight.codes[0], 0);  // nibble 8
  EXPECT_EQ(weight.codes[7], -7);
  // Stored less one: 7 is 8, and of the second group's word nibble i is 7 − i.
  EXPECT_EQ(weight.group_zero[0], 0);
  EXPECT_EQ(weight.group_zero[8], 0);
  EXPECT_EQ(weight.group_zero[15], -7);
  config["desc_act"] = true;
  const auto refused = bind();
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().message.find("l.o_proj.g_idx': group 0 has 64 channels"),
            std::string::npos)
      << refused.error().message;
}

TEST(SchemeTable, TooManyExpressionsAreAnError) {
  Json config = compressed_tensors_manifest(
      "pack-quantized", quantization_arguments(4, "int", "group", 128), nullptr);
  config["ignore"] = std::vector<std::string>(300, "layers.0.q_proj");
  EXPECT_TRUE(read_compressed_tensors(config, "c").ok());
  config["ignore"] = std::vector<std::string>(300, "re:x");
  EXPECT_FALSE(read_compressed_tensors(config, "c").ok());
}

/// One weight scale per part and one input scale, as [1] and as [].
TEST(SchemeTable, StaticScalesAreReadAndChecked) {
  Json arguments = quantization_arguments(8, "float", "tensor", 0);
  const auto table = *read_compressed_tensors(
      compressed_tensors_manifest("float-quantized", arguments, arguments), "config.json");
  TensorMap tensors;
  LinearSpec spec;
  spec.name = "l.qk_proj";
  spec.prefix = "l.";
  spec.parts = {"q_proj", "k_proj"};
  spec.part_rows = {2, 1};
  spec.k = 3;
  for (size_t i = 0; i < 2; ++i) {
    const std::string name = "l." + spec.parts[i];
    const int64_t rows = spec.part_rows[i];
    tensors.set(name + ".weight",
                make_tensor<Float8E4M3>({rows, 3}, std::vector<Float8E4M3>(3 * rows, {0x38})));
    const Shape shape = i == 0 ? Shape{1} : Shape();
    tensors.set(name + ".weight_scale", make_tensor<float>(shape, {0.5F + static_cast<float>(i)}));
    tensors.set(name + ".input_scale", make_tensor<float>(shape, {0.25F + static_cast<float>(i)}));
  }
  const auto bind = [&] {
    return bind_linear(spec, **find_weight_format("w8a8-fp8"), table.get(), tensors);
  };
  const auto bound = bind();
  ASSERT_TRUE(bound.ok()) << bound.error().message;
  EXPECT_EQ(w8a8::input_scale_of(*bound), 1.25F);  // the largest
  EXPECT_EQ(bound->format->unpack(*bound)->channel_scale, (std::vector<float>{0.5F, 0.5F, 1.5F}));
  const auto runtime = Runtime::cpu(detect_cpu_isa(), 1);
  Context& ctx = runtime->context();
  const std::vector<float> x{1.25F, 2.5F, -1e9F, 0, std::nanf(""), 0};
  const Activation input =
      bound->format->cpu.input_from_rows(ctx, *bound, View<const float, 2>{x.data(), {2, 3}});
  EXPECT_EQ(input.parts[0].data<Float8E4M3>()[0].bits, 0x38);  // 1
  EXPECT_EQ(input.parts[0].data<Float8E4M3>()[1].bits, 0x40);  // 2
  EXPECT_EQ(input.parts[0].data<Float8E4M3>()[2].bits, 0xFE);  // −448
  EXPECT_EQ(input.parts[1].data<float>()[0], 1.25F);
  EXPECT_TRUE(std::isnan(input.parts[1].data<float>()[1]));
  for (const float bad : {0.0F, -1.0F, std::nanf("")}) {
    tensors.set("l.k_proj.input_scale", make_tensor<float>({1}, {bad}));
    const auto refused = bind();
    ASSERT_FALSE(refused.ok());
    EXPECT_NE(refused.error().message.find("l.k_proj.input_scale"), std::string::npos);
  }
  tensors.erase("l.k_proj.input_scale");
  EXPECT_FALSE(bind().ok());
}

}  // namespace
}  // namespace comet::formats
