// Bad manifests and bad tensors: every error is one sentence that names the field or tensor.
#include <gtest/gtest.h>

#include "comet/formats/w4ax/layout.h"
#include "comet/formats/w4ax/w4ax.h"
#include "support/linear_samples.h"

namespace comet::formats::w4ax {
namespace {

using ::comet::testing::bind_w4ax;
using ::comet::testing::make_tensor;
using ::comet::testing::random_w4ax;
using ::comet::testing::TensorMap;
using ::comet::testing::w4ax_config;

struct Fixture {
  QuantizedWeight weight = random_w4ax({.part_rows = {100, 30},
                                        .k = 200,
                                        .int8_blocks = 1,
                                        .granularity = Granularity::kProgressive,
                                        .has_bias = true},
                                       8);
  PackedLinear packed = *pack(weight);
  Json config = w4ax_config(weight, packed);
  TensorMap tensors;
  LinearSpec spec;

  Fixture() {
    spec = bind_w4ax(weight, tensors).spec;  // fills tensors
  }
  [[nodiscard]] Result<LinearWeight> bind() const {
    const auto parsed = parse_config(config, "m/config.json");
    if (!parsed) return parsed.error();
    return w4ax_format().bind(spec, parsed->get(), tensors);
  }
};

struct BadField {
  std::string pointer;
  Json value;
  std::string message;  // a part of it
};

TEST(Config, EveryFieldIsChecked) {
  const std::vector<BadField> cases{
      {"/quant_method", "gptq", "quant_method"},
      {"/format", "w4a16", "format"},
      {"/version", 2, "comet quantize MODEL -o OUT --format w4ax --force"},
      {"/layout", "tile256", "comet quantize MODEL -o OUT --format w4ax --force"},
      {"/lm_head", "fp4", "lm_head"},
      {"/weights", 3, "weights.bits"},
      {"/weights/bits", 3, "weights.bits"},
      {"/weights/granularity", "tensor", "weights.granularity"},
      {"/weights/group_size", 64, "weights.group_size"},
      {"/activations/scale", "S3", "activations.scale"},
      {"/activations/block_size", "128", "activations.block_size"},
      {"/kv_cache/format", "kv2", "kv_cache.format"},
      {"/kv_cache/rotate", 1, "kv_cache.rotate"},
      {"/kv_cache/window", {0, -1}, "kv_cache.window"},
      {"/kv_cache/window", {0}, "kv_cache.window"},
      {"/sites", Json::object(), "sites"},
      {"/sites/0/name", 1, "sites[0].name"},
      {"/sites/0/k", 0, "sites[0].k"},
      {"/sites/0/k", 131073, "sites[0].k"},
      {"/sites/0/k", 18446744073709551615ULL, "sites[0].k"},
      {"/sites/0/k_padded", 384, "sites[0].k_padded"},
      {"/sites/0/int8_blocks", 3, "sites[0].int8_blocks"},
      {"/sites/0/int8_blocks", -1, "sites[0].int8_blocks"},
      {"/sites/0/clip", 1.5, "sites[0].clip"},
      {"/sites/0/clip", 0, "sites[0].clip"},
      {"/linears/0/name", nullptr, "linears[0].name"},
      {"/linears/0/site", "elsewhere", "linears[0].site"},
      {"/linears/0/parts", Json::array(), "linears[0].parts"},
      {"/linears/0/rows", {100}, "linears[0].rows"},
      {"/linears/0/rows/1", -30, "linears[0].rows"},
      {"/linears/0/rows/1", 1LL << 40, "linears[0].rows"},
  };
  for (const BadField& bad : cases) {
    Fixture f;
    f.config[Json::json_pointer(bad.pointer)] = bad.value;
    const auto parsed = parse_config(f.config, "m/config.json");
    ASSERT_FALSE(parsed.ok()) << bad.pointer;
    EXPECT_TRUE(parsed.error().message.starts_with("m/config.json: ")) << parsed.error().message;
    EXPECT_NE(parsed.error().message.find(bad.message), std::string::npos)
        << bad.pointer << ": " << parsed.error().message;
  }
}

TEST(Config, MissingFieldsAndDuplicatesAreErrors) {
  const Fixture f;
  for (const auto& [key, value] : f.config.items()) {
    Json config = f.config;
    config.erase(key);
    EXPECT_FALSE(parse_config(config, "c").ok()) << key;
  }
  for (const char* list : {"sites", "linears"}) {
    Json config = f.config;
    config[list].push_back(config[list][0]);
    const auto parsed = parse_config(config, "c");
    ASSERT_FALSE(parsed.ok());
    EXPECT_NE(parsed.error().message.find("twice"), std::string::npos) << parsed.error().message;
  }
  EXPECT_FALSE(parse_config(Json(), "c").ok());
}

TEST(Config, TheValuesArrive) {
  Fixture f;
  f.config["kv_cache"]["window"] = {4, 32};
  f.config["lm_head"] = "int8";
  const auto parsed = parse_config(f.config, "c");
  const auto& config = dynamic_cast<const Config&>(**parsed);
  EXPECT_EQ(config.granularity, Granularity::kProgressive);
  EXPECT_EQ(config.act_scale, ActScale::kS2);
  EXPECT_EQ(config.kv_format, "kv4");
  EXPECT_TRUE(config.kv_rotate);
  EXPECT_EQ(config.kv_window_first, 4);
  EXPECT_EQ(config.kv_window_last, 32);
  EXPECT_TRUE(config.lm_head_int8);
  EXPECT_EQ(config.find_site("model.layers.0.self_attn.qkv_in")->clip, 0.9F);
  EXPECT_EQ(config.find_site("nowhere"), nullptr);
}

void expect_bind_error(const Fixture& f, const std::string& part) {
  const auto bound = f.bind();
  ASSERT_FALSE(bound.ok()) << part;
  EXPECT_NE(bound.error().message.find(part), std::string::npos) << bound.error().message;
}

TEST(Bind, EveryTensorIsNeededWithItsTypeAndShape) {
  const Fixture good;
  ASSERT_TRUE(good.bind().ok());
  const std::string linear = "model.layers.0.self_attn.qkv_proj";
  for (const char* suffix :
       {".weight_packed", ".weight_scale", ".group_scale", ".group_offset", ".bias"}) {
    Fixture f;
    f.tensors.erase(linear + suffix);
    expect_bind_error(f, linear + suffix);
    f.tensors.set(linear + suffix, make_tensor<int32_t>({1}, {0}));
    expect_bind_error(f, linear + suffix);
  }
}

TEST(Bind, PermutationsAreChecked) {
  const std::string perm = "model.layers.0.self_attn.qkv_in.perm";
  for (const auto& [position, value, part] :
       std::vector<std::tuple<int, int32_t, std::string>>{{5, 200, "channel 200 at position 5"},
                                                          {0, -2, "channel -2 at position 0"},
                                                          {7, INT32_MAX, "position 7"}}) {
    Fixture f;
    f.tensors.at(perm).data<int32_t>()[position] = value;
    expect_bind_error(f, part);
  }
  Fixture twice;
  auto* values = twice.tensors.at(perm).data<int32_t>();
  values[1] = values[0];
  expect_bind_error(twice, "at most once");
}

TEST(Bind, TheModelAndTheManifestMustAgree) {
  Fixture parts;
  parts.spec.parts[1] = "other";
  expect_bind_error(parts, "needs [p0, other]");
  Fixture rows;
  rows.spec.part_rows[0] = 99;
  expect_bind_error(rows, "rows [99, 30]");
  Fixture k;
  k.spec.k = 201;
  expect_bind_error(k, "k = 200");
  Fixture name;
  name.spec.name = "model.layers.1.self_attn.qkv_proj";
  expect_bind_error(name, "lacks 'model.layers.1.self_attn.qkv_proj'");
}

TEST(Bind, MultipliersStayInRange) {
  Fixture f;
  f.tensors.at("model.layers.0.self_attn.qkv_proj.group_scale").data<uint8_t>()[9] = 17;
  expect_bind_error(f, "group_scale");
}

/// u·g + o beyond 8 bits is an error where such a code is stored, and only there.
TEST(Bind, LevelsFitInEightBits) {
  const std::string linear = "model.layers.0.self_attn.qkv_proj";
  constexpr int kRow = 9;
  Fixture f;
  f.tensors.at(linear + ".group_scale").data<uint8_t>()[kRow] = 16;
  f.tensors.at(linear + ".group_offset").data<int8_t>()[kRow] = -97;  // 14 · 16 − 97 = 127
  auto* packed = f.tensors.at(linear + ".weight_packed").data<uint8_t>();
  const int64_t blocks = f.tensors.at(linear + ".weight_packed").size(1);
  const auto set_code = [&](int64_t k, int code) {
    const NibblePosition p = nibble_position(kRow, k, blocks);
    packed[p.byte] = static_cast<uint8_t>((packed[p.byte] & (0xF0 >> p.shift)) | code << p.shift);
  };
  for (int64_t k = 0; k < kBlock; ++k) set_code(k, 14);
  const auto bound = f.bind();
  ASSERT_TRUE(bound.ok()) << bound.error().message;
  set_code(77, 15);
  expect_bind_error(f, linear + ".group_offset: code 15 at stored row 9, channel 77 stands for");
}

}  // namespace
}  // namespace comet::formats::w4ax
