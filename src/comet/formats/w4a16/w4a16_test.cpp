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
      weight.codes[r * 128 + c] = static_cast<int8_t>((r * 5 + c * 3 + c / 7) % 16 - 8);
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
  expect_error("weight_zero_point", [&](TensorMap& t) {  // not what the config says
    t.set(part + "weight_zero_point", make_tensor(Shape{1, 2}, std::vector<int32_t>(2)));
  });
  const auto bad_index = [&](const std::string& what, std::vector<int32_t> index) {
    expect_error("weight_g_idx': " + what, [&](TensorMap& t) {
      t.set(part + "weight_g_idx", make_tensor(Shape{256}, index));
    });
  };
  std::vector<int32_t> index(256, 0);
  bad_index("group 0 has 256 channels", index);
  std::fill(index.begin() + 128, index.end(), 1);
  index[7] = 2;
  bad_index("element 7 is 2", index);
  index[7] = -1;
  bad_index("element 7 is -1", index);
}

std::shared_ptr<const FormatConfig> config_with(const char* field, const Json& value) {
  Json config = manifest({});
  config["config_groups"]["group_0"]["weights"][field] = value;
  return *parse_config(config, "folder/config.json");
}

TEST(W4a16, ZeroPointsAreCheckedAndMayBeBytes) {
  const QuantizedWeight weight = random_w4a16({6, 2}, 256, DType::kF16, true);
  const std::string name = "model.layers.0.self_attn.p1_proj.weight_zero_point";
  const auto config = config_with("symmetric", false);
  TensorMap tensors;
  tensors.add(*pack(weight));
  tensors.set("model.layers.0.self_attn.p0_proj.weight_zero_point",
              make_tensor(Shape{6, 2}, std::vector<int8_t>(12, 3)));
  const auto bound = [&] { return w4a16_format().bind(spec_of(weight), config.get(), tensors); };
  const auto missing = bound();
  ASSERT_FALSE(missing.ok());
  EXPECT_NE(missing.error().message.find(name), std::string::npos) << missing.error().message;
  tensors.set(name, make_tensor(Shape{2, 2}, std::vector<int8_t>{-8, 7, 0, 8}));
  const auto beyond = bound();
  ASSERT_FALSE(beyond.ok());
  EXPECT_NE(beyond.error().message.find("folder: tensor '" + name + "': element 3 is 8"),
            std::string::npos)
      << beyond.error().message;
  tensors.at(name).data<int8_t>()[3] = 1;
  const QuantizedWeight unpacked = *unpack(*bound());
  EXPECT_EQ(unpacked.group_zero, (std::vector<int8_t>{3, 3, 3, 3, 3, 3, -8, 0,  //
                                                      3, 3, 3, 3, 3, 3, 7, 1}));
}

TEST(W4a16, PartsMustShareTheirOrder) {
  QuantizedWeight weight = random_w4a16({6, 2}, 256, DType::kF16, false);
  TensorMap tensors;
  tensors.add(*pack(weight));
  std::vector<int32_t> index(256);
  for (int i = 0; i < 256; ++i) index[static_cast<size_t>(i)] = i % 2;
  tensors.set("model.layers.0.self_attn.p1_proj.weight_g_idx", make_tensor(Shape{256}, index));
  const auto bound = w4a16_format().bind(spec_of(weight), nullptr, tensors);
  ASSERT_FALSE(bound.ok());
  EXPECT_NE(bound.error().message.find("p1_proj' assigns channels to groups"), std::string::npos)
      << bound.error().message;
}

TEST(W4a16, ManifestIsWhatParseConfigReads) {
  const Json good = manifest({});
  EXPECT_TRUE(parse_config(good, "config.json").ok());
  EXPECT_EQ(*find_disk_format("compressed-tensors", "pack-quantized"), &w4a16_format());
  EXPECT_FALSE(find_disk_format("gptq", "").ok());  // read_quantization_config knows it
  EXPECT_FALSE(parse_config(Json(), "config.json").ok());
  EXPECT_FALSE(parse_config(Json::array(), "config.json").ok());
}

}  // namespace
}  // namespace comet::formats::w4a16
