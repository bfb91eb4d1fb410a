#include "comet/quant/quantize_model.h"
#include "support/temporary_folder.h"
#include "support/tiny_llama.h"

#include <gtest/gtest.h>

#include <fstream>
#include <limits>
#include <numeric>
#include <set>

namespace comet::quant {
namespace {

namespace fs = std::filesystem;
using testing::TinyModel;

std::string read_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::set<std::string> files_of(const std::string& directory) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(directory)) {
    names.insert(entry.path().filename().string());
  }
  return names;
}

class QuantizeModelTest : public ::testing::Test {
 protected:
  void write_model(TinyModel variant) {
    testing::write_tiny_checkpoint(folder_.file("model"), variant,
                                   testing::tiny_tensors(testing::tiny_model_config(variant)));
  }
  static QuantizeOptions recipe(std::string_view name) {
    return options_of_recipe(name, "auto", false).value();
  }
  Result<QuantReport> quantize(const QuantizeOptions& options, const std::string& out,
                               int num_threads = 1, bool force = false) {
    auto runtime = Runtime::cpu(detect_cpu_isa(), num_threads);
    const auto checkpoint = io::Checkpoint::open(folder_.file("model"));
    if (!checkpoint) return checkpoint.error();
    return quantize_model(runtime->context(), *checkpoint, {options, folder_.file(out), force, {}},
                          set_);
  }
  static QuantizeOptions with_window(QuantizeOptions options) {
    options.kv_options.window_first = 2;
    options.kv_options.window_recent = 5;
    return options;
  }
  /// Logits of the last token of one calibration sample.
  std::vector<float> logits_of(const std::string& name) {
    auto runtime = Runtime::cpu(detect_cpu_isa(), 1);
    Context& ctx = runtime->context();
    const auto checkpoint = io::Checkpoint::open(folder_.file(name)).value();
    const auto model = models::load_model(ctx, checkpoint, "").value();
    const std::vector<int32_t>& tokens = set_.samples[0];
    const auto count = static_cast<int32_t>(tokens.size());
    auto cache = model->make_cache(ctx, 2, 1).value();
    std::vector<int32_t> positions(count);
    std::iota(positions.begin(), positions.end(), 0);
    const std::array<int32_t, 2> cu_seqlens{0, count};
    const std::array<int32_t, 1> kv_lens{count};
    std::array<int32_t, 2> pages{0, 1};
    const std::array<int32_t, 1> slots{0};
    const std::array<int32_t, 1> sample_rows{count - 1};
    Batch batch;
    batch.tokens = tokens;
    batch.positions = positions;
    batch.cu_seqlens = cu_seqlens;
    batch.kv_lens = kv_lens;
    batch.block_tables = {pages.data(), {1, 2}};
    batch.sample_rows = sample_rows;
    batch.seq_slots = slots;
    const ArenaScope scope(ctx.arena);
    const Tensor logits = model->forward(ctx, batch, cache);
    return {logits.data<float>(), logits.data<float>() + logits.num_elements()};
  }
  double relative_error(const std::string& name) {
    const std::vector<float> want = logits_of("model");
    const std::vector<float> got = logits_of(name);
    double error = 0.0;
    double signal = 0.0;
    for (size_t i = 0; i < want.size(); ++i) {
      error += std::pow(static_cast<double>(got[i]) - want[i], 2);
      signal += static_cast<double>(want[i]) * want[i];
    }
    return std::sqrt(error / signal);
  }

  testing::TemporaryFolder folder_;
  CalibrationSet set_ = testing::random_samples(6, 40, 2);
};

TEST_F(QuantizeModelTest, EveryRecipeLoadsAndComesClose) {
  for (const TinyModel variant :
       {TinyModel::kLlama, TinyModel::kBiases, TinyModel::kQwen2, TinyModel::kQwen3}) {
    write_model(variant);
    for (const std::string name : {"w4a8", "fmpq", "paper", "naive"}) {
      const auto report = quantize(recipe(name), name, 1, true);
      ASSERT_TRUE(report.ok()) << report.error().message;
      EXPECT_EQ(files_of(folder_.file(name)),
                (std::set<std::string>{"config.json", "model.safetensors", "quant_report.json",
                                       "tokenizer.json"}));
      EXPECT_LT(relative_error(name), name == "naive" ? 0.8 : 0.4) << name;
      EXPECT_EQ(report->linears.size(), 8U);
      EXPECT_GT(report->linears[3].output_snr_db.value(), 10.0);
    }
    EXPECT_LT(relative_error("w4a8"), relative_error("naive"));
    for (const std::string name : {"w8a8-int", "w8a8-fp8"}) {
      const auto report = quantize(recipe(name), name, 1, true);
      ASSERT_TRUE(report.ok()) << report.error().message;
      EXPECT_LT(relative_error(name), name == "w8a8-int" ? 0.04 : 0.12) << name;
      EXPECT_GT(snr_db(report->linears[3]), 25.0);
    }
  }
}

TEST_F(QuantizeModelTest, EveryGranularityWithInt8Head) {
  write_model(TinyModel::kLlama);
  for (const auto granularity : {formats::Granularity::kChannel, formats::Granularity::kGroup,
                                 formats::Granularity::kProgressive}) {
    QuantizeOptions options = recipe("fmpq");
    options.granularity = granularity;
    options.int8_lm_head = true;
    const auto report = quantize(options, "out", 1, true);
    ASSERT_TRUE(report.ok()) << report.error().message;
    EXPECT_LT(relative_error("out"), 0.4) << formats::granularity_name(granularity);
  }
}

TEST_F(QuantizeModelTest, SameBytesForAnyThreadsAndAgain) {
  write_model(TinyModel::kBiases);
  for (const std::string name : {"fmpq", "w4a8", "w8a8-int", "w8a8-fp8"}) {
    ASSERT_TRUE(quantize(recipe(name), "one", 1, true).ok());
    ASSERT_TRUE(quantize(recipe(name), "two", 2, true).ok());
    ASSERT_TRUE(quantize(recipe(name), "again", 2, true).ok());
    for (const std::string& file : files_of(folder_.file("one"))) {
      const std::string bytes = read_bytes(folder_.file("one/" + file));
      EXPECT_EQ(bytes, read_bytes(folder_.file("two/" + file))) << file;
      EXPECT_EQ(bytes, read_bytes(folder_.file("again/" + file))) << file;
    }
  }
}

TEST_F(QuantizeModelTest, ReportAndManifest) {
  write_model(TinyModel::kLlama);
  QuantizeOptions options = recipe("fmpq");
  ASSERT_TRUE(quantize(options, "out").ok());
  const Json report = Json::parse(read_bytes(folder_.file("out/quant_report.json")));
  EXPECT_EQ(report["format"], "w4ax");
  EXPECT_EQ(report["kv"], "kv4");
  EXPECT_EQ(report["act_scale"], "S2h");
  EXPECT_EQ(report["w4"], "channel");
  EXPECT_EQ(report["weights"], "gptq");
  // Blocks 2, 2, 2, 3 with one INT8 block each; rows 512, 192, 600, 192.
  EXPECT_DOUBLE_EQ(report["int4_block_share"], 5.0 / 9.0);
  EXPECT_DOUBLE_EQ(report["int4_activation_share"],
                   (512.0 + 192.0 + 600.0 + 2 * 192.0) / (2 * (512.0 + 192.0 + 600.0) + 3 * 192.0));
  EXPECT_EQ(report["layers"].size(), 8U);
  EXPECT_EQ(report["layers"][3]["name"], "model.layers.0.mlp.down_proj");
  EXPECT_TRUE(report["perplexity"]["before"].is_null());
  const Json config = Json::parse(read_bytes(folder_.file("out/config.json")));
  EXPECT_EQ(config["hidden_size"], 192);
  EXPECT_EQ(config["quantization_config"]["sites"].size(), 8U);
  EXPECT_EQ(config["quantization_config"]["linears"].size(), 8U);
  EXPECT_EQ(config["quantization_config"]["activations"]["scale"], "S2h");
}

TEST_F(QuantizeModelTest, ReportOfEightBits) {
  write_model(TinyModel::kQwen2);
  QuantizeOptions options = recipe("w8a8-int");
  fit_scale_type(options, testing::tiny_model_config(TinyModel::kQwen2));
  ASSERT_TRUE(quantize(options, "searched").ok());
  const Json searched = Json::parse(read_bytes(folder_.file("searched/quant_report.json")));
  EXPECT_EQ(searched["format"], "w8a8-int");
  EXPECT_EQ(searched["kv"], "kv16");
  EXPECT_EQ(searched["act_scale"], "token");
  EXPECT_EQ(searched["smooth"], "auto");
  EXPECT_EQ(searched["weights_scale"], "absmax");
  EXPECT_EQ(searched["int4_activation_share"], 0.0);
  options.smoothing = Smoothing::kFixed;
  options.smoothing_strength = 0.5;
  options.search_scales = true;
  ASSERT_TRUE(quantize(options, "fixed").ok());
  const Json fixed = Json::parse(read_bytes(folder_.file("fixed/quant_report.json")));
  EXPECT_EQ(fixed["smooth"], 0.5);
  EXPECT_EQ(fixed["weights_scale"], "mse");
  for (const Json& layer : fixed["layers"]) EXPECT_EQ(layer["smooth"], 0.5);
  options.smoothing = Smoothing::kOff;
  ASSERT_TRUE(quantize(options, "off").ok());
  const Json off = Json::parse(read_bytes(folder_.file("off/quant_report.json")));
  EXPECT_EQ(off["smooth"], "off");
  EXPECT_TRUE(off["layers"][0]["smooth"].is_null());
  EXPECT_NE(read_bytes(folder_.file("off/model.safetensors")),
            read_bytes(folder_.file("fixed/model.safetensors")));
}

TEST_F(QuantizeModelTest, FloatCodesNeedNoCalibration) {
  write_model(TinyModel::kLlama);
  QuantizeOptions options = recipe("w8a8-fp8");
  fit_cache_options(options, testing::tiny_model_config(TinyModel::kLlama));
  EXPECT_FALSE(needs_calibration(options));
  ASSERT_TRUE(quantize(options, "calibrated").ok());
  const CalibrationSet all = set_;
  set_ = {};
  const auto report = quantize(options, "out");
  ASSERT_TRUE(report.ok()) << report.error().message;
  EXPECT_EQ(read_bytes(folder_.file("out/model.safetensors")),
            read_bytes(folder_.file("calibrated/model.safetensors")));
  EXPECT_FALSE(report->linears[0].output_snr_db.has_value());
  const Json json = Json::parse(read_bytes(folder_.file("out/quant_report.json")));
  EXPECT_TRUE(json["layers"][0]["output_snr_db"].is_null());
  EXPECT_EQ(json["calibration"]["tokens"], 0);
  // A narrow cache smooths keys, and that takes text.
  options = recipe("w8a8-fp8");
  options.kv = "kv4";
  fit_cache_options(options, testing::tiny_model_config(TinyModel::kLlama));
  EXPECT_TRUE(needs_calibration(options));
  EXPECT_FALSE(quantize(options, "narrow").ok());
  set_ = all;
  ASSERT_TRUE(quantize(options, "narrow").ok());
  EXPECT_LT(relative_error("narrow"), 0.3);
}

TEST_F(QuantizeModelTest, RefusesToOverwriteAndReplacesWhole) {
  write_model(TinyModel::kLlama);
  ASSERT_TRUE(quantize(recipe("naive"), "out").ok());
  const std::string before = read_bytes(folder_.file("out/model.safetensors"));
  const auto refused = quantize(recipe("w4a8"), "out");
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().message.find("--force"), std::string::npos);
  EXPECT_EQ(read_bytes(folder_.file("out/model.safetensors")), before);

  fs::create_directories(folder_.file("out.partial"));
  std::ofstream(folder_.file("out.partial/stale")) << "x";
  ASSERT_TRUE(quantize(recipe("w4a8"), "out/", 1, true).ok());
  EXPECT_NE(read_bytes(folder_.file("out/model.safetensors")), before);
  EXPECT_FALSE(fs::exists(folder_.file("out.partial")));
  EXPECT_FALSE(fs::exists(folder_.file("out.old")));
  EXPECT_FALSE(fs::exists(folder_.file("out/stale")));

  EXPECT_FALSE(quantize(recipe("w4a8"), "model", 1, true).ok());  // the source itself
  fs::create_directories(folder_.file("home/precious"));
  EXPECT_FALSE(quantize(recipe("w4a8"), "home", 1, true).ok());  // no model folder
  EXPECT_TRUE(fs::exists(folder_.file("home/precious")));
}

TEST_F(QuantizeModelTest, NonFiniteWeightLeavesNothing) {
  auto tensors = testing::tiny_tensors(testing::tiny_model_config(TinyModel::kLlama));
  for (auto& [name, tensor] : tensors) {
    if (name == "model.layers.1.self_attn.o_proj.weight") {
      tensor.data<BFloat16>()[3] = to_bfloat16(std::numeric_limits<float>::infinity());
    }
  }
  testing::write_tiny_checkpoint(folder_.file("model"), TinyModel::kLlama, tensors);
  const auto report = quantize(recipe("w4a8"), "out");
  ASSERT_FALSE(report.ok());
  EXPECT_NE(report.error().message.find("model.layers.1.self_attn.o_proj.weight"),
            std::string::npos);
  EXPECT_EQ(files_of(folder_.file(".")), std::set<std::string>{"model"});
}

TEST_F(QuantizeModelTest, CacheOptionsReachTheManifestAndTheModel) {
  write_model(TinyModel::kLlama);
  ASSERT_TRUE(quantize(with_window(recipe("w4a8")), "out").ok());
  const Json config = Json::parse(read_bytes(folder_.file("out/config.json")));
  EXPECT_EQ(config["quantization_config"]["kv_cache"],
            (Json{{"format", "kv4"}, {"rotate", true}, {"window", {2, 5}}}));
  EXPECT_LT(relative_error("out"), 0.4);
  QuantizeOptions options = with_window(recipe("w4a8"));
  options.rotate_values = true;
  ASSERT_TRUE(quantize(options, "values").ok());
  EXPECT_LT(relative_error("values"), 0.4);
  options.kv_options.window_recent = 63;  // with the 2 first ones more than the context of 64
  EXPECT_FALSE(quantize(options, "other").ok());
}

TEST(Recipes, CacheOptionsFitTheModel) {
  io::ModelConfig config = testing::tiny_model_config(TinyModel::kLlama);
  QuantizeOptions options = options_of_recipe("w4a8", "auto", false).value();
  options.rotate_values = true;
  fit_cache_options(options, config);
  EXPECT_TRUE(options.kv_options.rotate && options.rotate_values && options.smooth_keys);
  config.head_dim = 96;
  fit_cache_options(options, config);
  EXPECT_FALSE(options.kv_options.rotate || options.rotate_values);
  EXPECT_TRUE(options.smooth_keys);
  options.kv = "kv16";
  fit_cache_options(options, config);
  EXPECT_FALSE(options.smooth_keys);
}

TEST_F(QuantizeModelTest, BadRequestsAreErrors) {
  write_model(TinyModel::kLlama);
  QuantizeOptions options = recipe("fmpq");
  options.int8_share = 1.5;
  EXPECT_FALSE(quantize(options, "out").ok());
  options = recipe("fmpq");
  options.int8_blocks = 3;  // qkv_in has two
  EXPECT_FALSE(quantize(options, "out").ok());
  options = recipe("fmpq");
  options.weights = "magic";
  EXPECT_FALSE(quantize(options, "out").ok());
  EXPECT_FALSE(options_of_recipe("best", "auto", false).ok());
  const auto refused = [&](const QuantizeOptions& asked, const std::string& flag) {
    const auto report = quantize(asked, "out");
    ASSERT_FALSE(report.ok());
    EXPECT_NE(report.error().message.find(flag), std::string::npos) << report.error().message;
  };
  options = recipe("w8a8-fp8");
  options.weights = "gptq";
  refused(options, "--weights gptq");
  options = recipe("w8a8-fp8");
  options.smoothing = Smoothing::kSearch;
  refused(options, "--smooth");
  options = recipe("w8a8-int");
  options.equalize = true;
  refused(options, "--equalize");
  options = recipe("w8a8-int");
  options.int8_lm_head = true;
  refused(options, "--lm-head");
  options = recipe("w8a8-int");
  options.smoothing_strength = 1.5;
  refused(options, "--smooth 1.5");
  options = recipe("w4a16");
  options.smoothing = Smoothing::kFixed;
  refused(options, "--smooth");
  ASSERT_TRUE(quantize(recipe("naive"), "out").ok());
  set_.samples.clear();
  EXPECT_FALSE(quantize(recipe("w4a8"), "other").ok());
  set_ = testing::random_samples(2, 10, 1);
  fs::rename(folder_.file("out"), folder_.file("model2"));
  fs::remove_all(folder_.file("model"));
  fs::rename(folder_.file("model2"), folder_.file("model"));
  const auto twice = quantize(recipe("w4a8"), "out");
  ASSERT_FALSE(twice.ok());
  EXPECT_NE(twice.error().message.find("quantized already"), std::string::npos);
}

TEST(Recipes, AutoFollowsTheTarget) {
  EXPECT_EQ(options_of_recipe("auto", "auto", false)->recipe, "w4a8");
  EXPECT_EQ(options_of_recipe("auto", "auto", true)->recipe, "fmpq");
  EXPECT_EQ(options_of_recipe("auto", "sm80", false)->recipe, "fmpq");
  EXPECT_EQ(options_of_recipe("auto", "sm90", true)->recipe, "w4a8");
  EXPECT_EQ(options_of_recipe("naive", "sm90", true)->weights, "rtn");
}

}  // namespace
}  // namespace comet::quant
