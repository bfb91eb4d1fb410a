// The layout against a golden made without this code, and bad manifests and tensors: every error is
// one sentence that names the field or tensor.
#include "comet/formats/w4a16/w4a16.h"

#include <gtest/gtest.h>

#include <limits>

#include "support/linear_samples.h"

namespace comet::formats::w4a16 {
namespace {

using ::comet::testing::make_tensor;
using ::comet::testing::random_w4a16;
using ::comet::testing::TensorMap;

LinearSpec spec_of(const QuantizedWeight& weight) {
  LinearSpec spec;
  spec.name = weight.name;
  spec.prefix = "model.layers.0.self_attn.";
  spec.parts = weight.parts;
  spec.part_rows = weight.part_rows;
  spec.k = weight.site.k;
  spec.has_bias = !weight.bias.empty();
  return spec;
}

/// q[r][c] = (r·5 + c·3 + c//7) % 16 − 8. The words were printed by Python:
///   sum((q(r, c) + 8) << 4 * (c - 8 * j) for c in range(8 * j, 8 * j + 8))
TEST(W4a16, WordsAreThoseOfTheGolden) {
  QuantizedWeight weight = random_w4a16({2}, 128, DType::kBF16, false);
  for (int r = 0; r < 2; ++r) {
    for (int c = 0; c < 128; ++c) {
      weight.codes[static_cast<size_t>(r * 128 + c)] =
          static_cast<int8_t>((r * 5 + c * 3 + c / 7) % 16 - 8);
    }
  }
  weight.group_scale = {0.5F, 0.0703125F};
  const PackedLinear packed = *pack(weight);
  TensorMap tensors;
  tensors.add(packed);
  const Tensor& words = tensors.at("model.layers.0.self_attn.p0_proj.weight_packed");
  EXPECT_EQ(words.dtype(), DType::kI32);
  EXPECT_EQ(words.shape(), (Shape{2, 16}));
  constexpr std::array<uint32_t, 4> kFirst{0x62FC9630U, 0xFC852FC9U, 0x852EB852U, 0x1EB841EBU};
  constexpr std::array<uint32_t, 4> kSecond{0x852FC952U, 0x1EB852FBU, 0xB741EB85U, 0x41DA741EU};
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(static_cast<uint32_t>(words.data<int32_t>()[i]), kFirst.at(i)) << i;
    EXPECT_EQ(static_cast<uint32_t>(words.data<int32_t>()[28 + i]), kSecond.at(i)) << i;
  }
  const Tensor& scales = tensors.at("model.layers.0.self_attn.p0_proj.weight_scale");
  EXPECT_EQ(scales.shape(), (Shape{2, 1}));
  EXPECT_EQ(scales.data<BFloat16>()[0].bits, 0x3F00);
  EXPECT_EQ(scales.data<BFloat16>()[1].bits, 0x3D90);
  const Tensor& shape = tensors.at("model.layers.0.self_attn.p0_proj.weight_shape");
  EXPECT_EQ(shape.data<int64_t>()[0], 2);
  EXPECT_EQ(shape.data<int64_t>()[1], 128);
}

TEST(W4a16, ChannelsMustFillGroups) {
  QuantizedWeight weight = random_w4a16({2}, 256, DType::kF16, false);
  weight.site.k = 200;
  const auto packed = pack(weight);
  ASSERT_FALSE(packed.ok());
  EXPECT_NE(packed.error().message.find("200"), std::string::npos);
  LinearSpec spec = spec_of(weight);
  const auto bound = w4a16_format().bind(spec, nullptr, TensorMap());
  ASSERT_FALSE(bound.ok());
  EXPECT_NE(bound.error().message.find("groups of 128"), std::string::npos);
}

TEST(W4a16, BadTensorsAreErrorsThatNameThem) {
  const QuantizedWeight weight = random_w4a16({6, 2}, 256, DType::kF16, true);
  const std::string part = "model.layers.0.self_attn.p1_proj.";
  const auto expect_error = [&](const std::string& suffix, auto&& change) {
    TensorMap tensors;
    tensors.add(*pack(weight));
    change(tensors);
    const auto bound = w4a16_format().bind(spec_of(weight), nullptr, tensors);
    ASSERT_FALSE(bound.ok()) << suffix;
    EXPECT_NE(bound.error().message.find(part + suffix), std::string::npos)
        << bound.error().message;
  };
  for (const char* suffix : {"weight_packed", "weight_scale", "weight_shape", "bias"}) {
    expect_error(suffix, [&](TensorMap& t) { t.erase(part + suffix); });
    expect_error(suffix, [&](TensorMap& t) {
      t.set(part + suffix, make_tensor(Shape{2, 3}, std::vector<float>(6, 1.0F)));
    });
  }
  expect_error("weight_shape",
               [&](TensorMap& t) { t.at(part + "weight_shape").data<int64_t>()[1] = 255; });
  expect_error("weight_scale", [&](TensorMap& t) {
    t.at(part + "weight_scale").data<Float16>()[3] =
        to_float16(std::numeric_limits<float>::infinity());
  });
  expect_error("weight_scale", [&](TensorMap& t) {
    t.set(part + "weight_scale", make_tensor(Shape{2, 2}, std::vector<BFloat16>(4)));
  });
  for (const char* suffix : {"weight_g_idx", "weight_zero_point"}) {
    expect_error(suffix, [&](TensorMap& t) {
      t.set(part + suffix, make_tensor(Shape{1}, std::vector<int32_t>(1)));
    });
  }
}

TEST(W4a16, ManifestIsWhatParseConfigReads) {
  const Json good = manifest({});
  EXPECT_TRUE(parse_config(good, "config.json").ok());
  EXPECT_EQ(*find_disk_format("compressed-tensors", "pack-quantized"), &w4a16_format());
  const auto unknown = find_disk_format("gptq", "");
  ASSERT_FALSE(unknown.ok());
  EXPECT_NE(unknown.error().message.find("pack-quantized of compressed-tensors"),
            std::string::npos);
}

TEST(W4a16, BadManifestsAreErrorsThatNameTheField) {
  const auto expect_error = [](const std::string& field, auto&& change) {
    Json config = manifest({});
    change(config);
    const auto parsed = parse_config(config, "config.json");
    ASSERT_FALSE(parsed.ok()) << field;
    EXPECT_NE(parsed.error().message.find("config.json: quantization_config." + field),
              std::string::npos)
        << parsed.error().message;
  };
  expect_error("format", [](Json& c) { c["format"] = "int-quantized"; });
  expect_error("kv_cache_scheme", [](Json& c) { c["kv_cache_scheme"] = {{"num_bits", 8}}; });
  expect_error("ignore", [](Json& c) { c["ignore"] = Json::array(); });
  expect_error("config_groups", [](Json& c) { c["config_groups"] = Json::array({1}); });
  expect_error("config_groups", [](Json& c) { c["config_groups"]["b"] = Json::object(); });
  const std::string group = "config_groups.group_0.";
  const auto in_group = [&](const std::string& field, const Json& value) {
    expect_error(group + field, [&](Json& c) { c["config_groups"]["group_0"][field] = value; });
  };
  in_group("targets", Json::array({"Conv2d"}));
  in_group("input_activations", {{"num_bits", 8}});
  in_group("format", "nvfp4-pack-quantized");
  const auto in_weights = [&](const std::string& field, const Json& value) {
    expect_error(group + "weights." + field,
                 [&](Json& c) { c["config_groups"]["group_0"]["weights"][field] = value; });
  };
  in_weights("num_bits", 8);
  in_weights("num_bits", "4");
  in_weights("type", "float");
  in_weights("symmetric", false);
  in_weights("strategy", "channel");
  in_weights("group_size", 64);
  in_weights("dynamic", true);
  in_weights("actorder", "group");
  EXPECT_FALSE(parse_config(Json(), "config.json").ok());
  EXPECT_FALSE(parse_config(Json::array(), "config.json").ok());
}

}  // namespace
}  // namespace comet::formats::w4a16
