// Models in w4a16 and the way out of Comet's formats: what a folder holds, and that the exported
// model computes what the quantized one does.
#include "comet/quant/export/export_dense.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "comet/base/rng.h"
#include "comet/quant/export/dense_weight.h"
#include "comet/quant/export/export_compressed_tensors.h"
#include "comet/quant/fmpq/activation_rows.h"
#include "comet/quant/fmpq/permutation.h"
#include "comet/quant/quantize_model.h"
#include "support/last_logits.h"
#include "support/temporary_folder.h"
#include "support/tiny_llama.h"

namespace comet::quant {
namespace {

namespace fs = std::filesystem;
using formats::ActScale;
using formats::Granularity;
using testing::TinyModel;

/// Eight rows of 300 channels in a random stored order, the last block in 8 bits.
formats::QuantizedWeight random_weight(Granularity granularity, ActScale scale) {
  Rng rng(7);
  std::vector<float> magnitudes;
  for (int i = 0; i < 300; ++i) magnitudes.push_back(rng.next_uniform());
  formats::QuantizedWeight weight;
  weight.part_rows = {5, 3};
  weight.site = make_site_layout("site", magnitudes, 1, scale, /*sorted=*/true);
  weight.granularity = granularity;
  const bool progressive = granularity == Granularity::kProgressive;
  for (int64_t i = 0; i < 8 * weight.site.k_padded; ++i) {
    const int code = static_cast<int>(rng.next_below(16));
    weight.codes.push_back(static_cast<int8_t>(progressive ? code : code - 8));
  }
  for (int i = 0; i < 8; ++i) weight.channel_scale.push_back(rng.next_uniform());
  for (int64_t i = 0; i < 8 * weight.site.num_blocks(); ++i) {
    weight.group_scale.push_back(rng.next_uniform());
    weight.group_multiplier.push_back(static_cast<uint8_t>(1 + rng.next_below(16)));
    weight.group_offset.push_back(static_cast<int8_t>(rng.next_below(100)));
  }
  return weight;
}

/// The weight of row n at stored channel i.
double stored_value(const formats::QuantizedWeight& weight, int64_t n, int64_t i) {
  const int64_t group = i / formats::kBlock * weight.num_rows() + n;
  const double code = weight.codes[n * weight.site.k_padded + i];
  switch (weight.granularity) {
    case Granularity::kProgressive:
      return weight.channel_scale[n] *
             (code * weight.group_multiplier[group] + weight.group_offset[group]);
    case Granularity::kGroup:
      return code * weight.group_scale[group];
    default:
      return code * weight.channel_scale[n];
  }
}

/// x · dense_weightᵀ equals the product of stored rows and decoded stored weights, in FP64.
TEST(DenseWeight, UndoesOrderAndRotation) {
  ThreadPool pool(2);
  for (const auto granularity :
       {Granularity::kChannel, Granularity::kGroup, Granularity::kProgressive}) {
    for (const auto scale : {ActScale::kS1, ActScale::kS2, ActScale::kS2h}) {
      const formats::QuantizedWeight weight = random_weight(granularity, scale);
      const Matrix x = testing::random_matrix(4, 300, 3);
      const Matrix stored = stored_rows(pool, weight.site, x.view());
      const Matrix dense = dense_weight(pool, weight);
      ASSERT_EQ(dense.cols, 300);
      for (int64_t t = 0; t < x.rows; ++t) {
        for (int64_t n = 0; n < dense.rows; ++n) {
          double got = 0;
          double want = 0;
          double size = 0;
          for (int64_t i = 0; i < 300; ++i) got += double{x.row(t)[i]} * dense.row(n)[i];
          for (int64_t i = 0; i < weight.site.k_padded; ++i) {
            const double product = stored.row(t)[i] * stored_value(weight, n, i);
            want += product;
            size += std::abs(product);
          }
          ASSERT_NEAR(got, want, 1e-6 * size) << granularity_name(granularity);
        }
      }
    }
  }
}

class ExportTest : public ::testing::Test {
 protected:
  void SetUp() override { write_model(Json::object()); }
  /// The tiny model with channels in multiples of 128, and these fields on top.
  void write_model(const Json& changes) {
    Json json = testing::tiny_config(TinyModel::kBiases);
    json["hidden_size"] = 256;
    json["intermediate_size"] = 384;
    json.update(changes);
    const auto config = io::parse_model_config(json, "config.json").value();
    testing::write_tiny_checkpoint(folder_.file("model"), TinyModel::kBiases,
                                   testing::tiny_tensors(config));
    io::write_file_atomic(folder_.file("model/config.json"), json.dump()).value();
  }
  static QuantizeOptions recipe(std::string_view name) {
    return options_of_recipe(name, "auto", false).value();
  }
  Result<QuantReport> quantize(const QuantizeOptions& options, const std::string& out) {
    auto runtime = Runtime::cpu(detect_cpu_isa(), 2);
    const auto checkpoint = io::Checkpoint::open(folder_.file("model"));
    if (!checkpoint) return checkpoint.error();
    QuantizeRequest request;
    request.options = options;
    request.out_dir = folder_.file(out);
    request.force = true;
    return quantize_model(runtime->context(), *checkpoint, request, set_);
  }
  Result<int64_t> leave(const std::string& name, const std::string& out, bool force = false) {
    auto runtime = Runtime::cpu(detect_cpu_isa(), 2);
    const auto checkpoint = io::Checkpoint::open(folder_.file(name));
    if (!checkpoint) return checkpoint.error();
    return export_dense(runtime->context(), *checkpoint, {folder_.file(out), force, {}});
  }
  Json config_of(const std::string& name) {
    std::ifstream file(folder_.file(name + "/config.json"));
    return Json::parse(file);
  }
  double distance(const std::string& got, const std::string& want) {
    return testing::relative_distance(testing::last_logits(folder_.file(got), set_.samples[0]),
                                      testing::last_logits(folder_.file(want), set_.samples[0]));
  }

  testing::TemporaryFolder folder_;
  CalibrationSet set_ = testing::random_samples(6, 40, 2);
};

TEST_F(ExportTest, W4a16IsWrittenAsCompressedTensorsReadsIt) {
  QuantizeOptions options = recipe("w4a16");
  options.kv = "kv8";
  options.scale_type = DType::kBF16;
  const auto report = quantize(options, "out");
  ASSERT_TRUE(report.ok()) << report.error().message;
  EXPECT_LT(distance("out", "model"), 0.25);
  const Json config = config_of("out");
  EXPECT_EQ(config["quantization_config"]["format"], "pack-quantized");
  EXPECT_EQ(config["comet_kv_cache"]["format"], "kv8");
  const auto checkpoint = io::Checkpoint::open(folder_.file("out")).value();
  const std::string prefix = "model.layers.1.self_attn.v_proj.";
  EXPECT_TRUE(checkpoint.tensor(prefix + "weight_packed", {DType::kI32}, {128, 32}).ok());
  EXPECT_TRUE(checkpoint.tensor(prefix + "weight_scale", {DType::kBF16}, {128, 2}).ok());
  EXPECT_TRUE(checkpoint.tensor(prefix + "weight_shape", {DType::kI64}, {2}).ok());
  EXPECT_TRUE(checkpoint.tensor(prefix + "bias", {DType::kF32}, {128}).ok());
  const Json json = report_json(*report);
  EXPECT_EQ(json["format"], "w4a16");
  EXPECT_EQ(json["layers"][0]["format"], "w4a16");
  EXPECT_EQ(json["int4_activation_share"], 0.0);
  EXPECT_EQ(json["act_scale"], "A16");
  EXPECT_EQ(json["w4"], "group");
}

TEST_F(ExportTest, W4a16ByGptqIsCloserThanByRounding) {
  QuantizeOptions options = recipe("w4a16");
  ASSERT_TRUE(quantize(options, "gptq").ok());
  options.weights = "rtn";
  ASSERT_TRUE(quantize(options, "rtn").ok());
  EXPECT_LT(distance("gptq", "model"), distance("rtn", "model"));
}

TEST_F(ExportTest, W4a16RefusesWhatItCannotHold) {
  QuantizeOptions options = recipe("w4a16");
  options.int8_lm_head = true;
  EXPECT_FALSE(quantize(options, "out").ok());
  options = recipe("w4a16");
  options.granularity = Granularity::kChannel;
  EXPECT_FALSE(quantize(options, "out").ok());
  options = recipe("w4a16");
  options.act_scale = ActScale::kS2;
  EXPECT_FALSE(quantize(options, "out").ok());
  write_model({{"intermediate_size", 300}});
  const auto narrow = quantize(recipe("w4a16"), "out");
  ASSERT_FALSE(narrow.ok());
  EXPECT_NE(narrow.error().message.find("down_proj' has 300 input channels"), std::string::npos);
  EXPECT_FALSE(fs::exists(folder_.file("out")));
}

TEST_F(ExportTest, ExportedModelsComputeWhatTheQuantizedOnesDo) {
  struct Case {
    std::string recipe;
    double bound;  // BF16 weights against the exact ones, and activations of 8 bits against floats
  };
  for (const Case& c : {Case{"w4a16", 0.01}, Case{"w4a8", 0.05}}) {
    QuantizeOptions options = recipe(c.recipe);
    options.kv = "kv16";
    options.smooth_keys = false;
    options.kv_options.rotate = false;
    ASSERT_TRUE(quantize(options, c.recipe).ok());
    const auto left = leave(c.recipe, c.recipe + "-dense");
    ASSERT_TRUE(left.ok()) << left.error().message;
    EXPECT_LT(distance(c.recipe + "-dense", c.recipe), c.bound) << c.recipe;
    EXPECT_GT(distance(c.recipe + "-dense", "model"), 2 * c.bound) << "is the original's";
    const Json config = config_of(c.recipe + "-dense");
    EXPECT_FALSE(config.contains("quantization_config") || config.contains("comet_kv_cache"));
    EXPECT_EQ(config["torch_dtype"], "bfloat16");
    EXPECT_EQ(config["tie_word_embeddings"], true);
    EXPECT_TRUE(fs::exists(folder_.file(c.recipe + "-dense/tokenizer.json")));
  }
}

/// The same codes in another order and rotation stand for about the same weights: S2h, permuted,
/// with 4-bit activations that the exported model no longer has.
TEST_F(ExportTest, RotatedModelsComeBackCloserThanTheyWere) {
  QuantizeOptions options = recipe("fmpq");
  options.int8_lm_head = true;
  ASSERT_TRUE(quantize(options, "fmpq").ok());
  ASSERT_TRUE(leave("fmpq", "dense").ok());
  EXPECT_LT(distance("dense", "model"), distance("fmpq", "model"));
  EXPECT_LT(distance("dense", "model"), 0.3);
  EXPECT_EQ(config_of("dense")["tie_word_embeddings"], false);  // the head of 8 bits is its own
  const auto checkpoint = io::Checkpoint::open(folder_.file("dense")).value();
  EXPECT_TRUE(checkpoint.tensor("lm_head.weight", {DType::kBF16}, {160, 256}).ok());
}

/// W4A8 without progressive weights keeps the model's channels: its weights alone are a W4A16
/// model.
TEST_F(ExportTest, W4axInOrderLeavesAsCompressedTensors) {
  QuantizeOptions options = recipe("w4a8");
  options.kv = "kv16";
  options.smooth_keys = false;
  options.kv_options.rotate = false;
  options.granularity = Granularity::kGroup;
  options.codes = WeightCodes::kS4;
  ASSERT_TRUE(quantize(options, "w4ax").ok());
  ASSERT_TRUE(leave("w4ax", "dense").ok());
  auto runtime = Runtime::cpu(detect_cpu_isa(), 2);
  const auto checkpoint = io::Checkpoint::open(folder_.file("w4ax")).value();
  const auto left =
      export_compressed_tensors(runtime->context(), checkpoint, {folder_.file("ct"), false, {}});
  ASSERT_TRUE(left.ok()) << left.error().message;
  EXPECT_LT(distance("ct", "dense"), 0.01);
  EXPECT_LT(distance("ct", "w4ax"), 0.05);
  EXPECT_EQ(config_of("ct")["torch_dtype"], "float16");  // the type of the scales
  options = recipe("fmpq");
  ASSERT_TRUE(quantize(options, "fmpq").ok());
  const auto permuted = io::Checkpoint::open(folder_.file("fmpq")).value();
  const auto refused =
      export_compressed_tensors(runtime->context(), permuted, {folder_.file("no"), false, {}});
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().message.find("use --format dense"), std::string::npos);
  EXPECT_FALSE(fs::exists(folder_.file("no")) || fs::exists(folder_.file("no.partial")));
}

TEST_F(ExportTest, BadRequestsLeaveNothing) {
  const auto dense = leave("model", "out");
  ASSERT_FALSE(dense.ok());
  EXPECT_NE(dense.error().message.find("dense already"), std::string::npos);
  ASSERT_TRUE(quantize(recipe("w4a16"), "q").ok());
  fs::create_directories(folder_.file("out"));
  std::ofstream(folder_.file("out/config.json")) << "{}";
  EXPECT_FALSE(leave("q", "out").ok());
  EXPECT_TRUE(leave("q", "out", true).ok());
  EXPECT_FALSE(fs::exists(folder_.file("out.partial")));
  Json config = config_of("q");
  config["quantization_config"]["config_groups"]["group_0"]["weights"]["group_size"] = 64;
  io::write_file_atomic(folder_.file("q/config.json"), config.dump()).value();
  const auto other = leave("q", "other");
  ASSERT_FALSE(other.ok());
  EXPECT_NE(other.error().message.find("weight_scale"), std::string::npos);
  EXPECT_FALSE(fs::exists(folder_.file("other")) || fs::exists(folder_.file("other.partial")));
}

}  // namespace
}  // namespace comet::quant
