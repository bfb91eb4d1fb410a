// Checkpoints of tests/data/interchange, which other programs wrote (tools/oracle_interchange.py:
// the compressed-tensors package; tools/make_packed_goldens.py: the layouts of AutoGPTQ and
// AutoAWQ) or Comet wrote and transformers read: every dequantized weight bit for bit, and the
// logits.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <numeric>

#include "comet/formats/schemes/bind_linear.h"
#include "comet/io/file.h"
#include "comet/models/load.h"
#include "comet/nn/rms_norm.h"
#include "comet/quant/export/dense_weight.h"
#include "comet/quant/export/export_compressed_tensors.h"
#include "comet/quant/export/export_dense.h"
#include "support/temporary_folder.h"

namespace comet::quant {
namespace {

namespace fs = std::filesystem;

const std::string kGoldens = COMET_SOURCE_DIR "/tests/data/interchange/";

Json read_json(const std::string& path) {
  std::ifstream file(path);
  return Json::parse(file);
}

uint32_t crc32(const float* values, int64_t count) {
  uint32_t crc = ~0U;
  const auto* bytes = reinterpret_cast<const uint8_t*>(values);
  for (int64_t i = 0; i < count * 4; ++i) {
    crc ^= bytes[i];
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ ((crc & 1U) != 0 ? 0xEDB88320U : 0U);
  }
  return ~crc;
}

/// Logits [tokens, vocab] of one pass over the prompt.
std::vector<float> logits_of(Context& ctx, const models::LlamaModel& model,
                             const std::vector<int32_t>& prompt, const kv::KvFormat* kv = nullptr) {
  auto cache = kv == nullptr
                   ? model.make_cache(ctx, 1, 1)
                   : kv::KvCache::create(*kv, model.kv_shape(), model.config().num_layers, 1);
  const auto count = static_cast<int32_t>(prompt.size());
  std::vector<int32_t> positions(prompt.size());
  std::iota(positions.begin(), positions.end(), 0);
  const std::array<int32_t, 2> bounds{0, count};
  const std::array<int32_t, 1> lens{count};
  const std::array<int32_t, 1> pages{0};
  const Batch batch{prompt, positions, bounds, lens, {pages.data(), {1, 1}}, positions};
  const ArenaScope scope(ctx.arena);
  const Tensor logits = model.forward(ctx, batch, *cache);
  return {logits.data<float>(), logits.data<float>() + logits.num_elements()};
}

/// Largest difference of the golden's rows, over max|logit|.
double logit_error(const Json& golden, const std::vector<float>& logits,
                   const char* key = "logits") {
  const Json& wanted = golden[key];
  const size_t vocab = wanted[0].size();
  double error = 0;
  double largest = 0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    const auto row = golden["logit_rows"][i].get<size_t>();
    for (size_t j = 0; j < vocab; ++j) {
      const double want = wanted[i][j].get<double>();
      error = std::max(error, std::abs(logits[row * vocab + j] - want));
      largest = std::max(largest, std::abs(want));
    }
  }
  return error / largest;
}

/// The linears' weights in FP32, as their format stands for them.
void expect_weights(Context& ctx, const io::Checkpoint& checkpoint, const Json& golden) {
  const auto e = start_export(ctx, checkpoint).value();
  size_t num_checked = 0;
  for (const formats::LinearSpec& spec : models::llama_linear_specs(e.config, 0)) {
    const auto bound =
        formats::bind_linear(spec, *e.format.weights, e.format.config.get(), e.source);
    ASSERT_TRUE(bound.ok()) << bound.error().message;
    const bool is_dense = bound->format->pack == nullptr;
    Matrix dense(0, 0);
    if (!is_dense) dense = dense_weight(ctx.pool, bound->format->unpack(*bound).value());
    int64_t begin = 0;
    for (size_t i = 0; i < spec.parts.size(); ++i, ++num_checked) {
      const std::string name = spec.prefix + spec.parts[i];
      std::vector<float> floats;
      if (is_dense) floats = nn::to_float_vector(bound->tensors[i]);
      const float* values = is_dense ? floats.data() : dense.row(begin);
      EXPECT_EQ(crc32(values, spec.part_rows[i] * spec.k), golden["weights"][name]) << name;
      begin += spec.part_rows[i];
    }
  }
  EXPECT_EQ(num_checked, golden["weights"].size());
}

struct Case {
  const char* name;
  double bound;  // of logits
};

class Interchange : public ::testing::TestWithParam<Case> {};

TEST_P(Interchange, WeightsAndLogitsAreTheWritersOwn) {
  const std::string folder = kGoldens + GetParam().name;
  const Json golden = read_json(folder + "/golden.json");
  const auto prompt = golden["prompt"].get<std::vector<int32_t>>();
  const auto checkpoint = io::Checkpoint::open(folder).value();
  for (const CpuIsa isa : available_cpu_isas()) {
    auto runtime = Runtime::cpu(isa, 2);
    Context& ctx = runtime->context();
    expect_weights(ctx, checkpoint, golden);
    const auto model = models::load_model(ctx, checkpoint, "");
    ASSERT_TRUE(model.ok()) << model.error().message;
    const bool own_cache = (*model)->format().has_kv_scales;
    const std::vector<float> logits =
        logits_of(ctx, **model, prompt, own_cache ? nullptr : &kv::kv32_format());
    EXPECT_LE(logit_error(golden, logits), GetParam().bound) << cpu_isa_name(isa);
    // By Comet's own scale of INT8 inputs, which is not the package's, there is no noise.
    if (!golden.contains("logits_127")) continue;
    EXPECT_LE(logit_error(golden, logits, "logits_127"), 1e-4) << cpu_isa_name(isa);
  }
}

INSTANTIATE_TEST_SUITE_P(Folders, Interchange,
                         ::testing::Values(Case{"ct_asym_g64", 1e-5}, Case{"ct_g32", 1e-5},
                                           Case{"ct_g_idx", 1e-5}, Case{"ct_mixed", 2e-2},
                                           Case{"ct_int8", 2e-2}, Case{"ct_fp8", 1e-4},
                                           Case{"ct_fp8_static", 1e-4}, Case{"gptq_asym_g32", 1e-5},
                                           Case{"gptq_desc_act", 1e-5},
                                           Case{"gptq_v2_channel", 1e-5}, Case{"awq_gemm", 1e-5},
                                           Case{"comet_w4a16", 1e-5}, Case{"comet_w8a8_int", 3e-2},
                                           Case{"comet_w8a8_fp8", 1e-4}),
                         [](const auto& param) { return std::string(param.param.name); });

class InterchangeOut : public ::testing::Test {
 protected:
  testing::TemporaryFolder folder_;
  std::unique_ptr<Runtime> runtime_ = Runtime::cpu(detect_cpu_isa(), 2);
  Context& ctx_ = runtime_->context();

  std::vector<float> logits(const io::Checkpoint& checkpoint, const Json& golden) {
    const auto model = models::load_model(ctx_, checkpoint, "").value();
    return logits_of(ctx_, *model, golden["prompt"].get<std::vector<int32_t>>(),
                     &kv::kv32_format());
  }
};

TEST_F(InterchangeOut, GptqAndAwqLeaveAsCompressedTensorsUnchanged) {
  for (const std::string name : {"gptq_asym_g32", "gptq_desc_act", "gptq_v2_channel", "awq_gemm"}) {
    const Json golden = read_json(kGoldens + name + "/golden.json");
    const auto source = io::Checkpoint::open(kGoldens + name).value();
    const auto left = export_compressed_tensors(ctx_, source, {folder_.file(name), false, {}});
    ASSERT_TRUE(left.ok()) << left.error().message;
    const auto out = io::Checkpoint::open(folder_.file(name)).value();
    EXPECT_EQ(out.config()["quantization_config"]["format"], "pack-quantized") << name;
    expect_weights(ctx_, out, golden);
    EXPECT_EQ(logits(out, golden), logits(source, golden)) << name;
    const auto again = export_compressed_tensors(ctx_, out, {folder_.file("again"), false, {}});
    ASSERT_FALSE(again.ok());
    EXPECT_NE(again.error().message.find("already"), std::string::npos);
  }
}

TEST_F(InterchangeOut, EveryFolderLeavesDense) {
  for (const std::string name : {"ct_asym_g64", "ct_mixed", "ct_g_idx", "ct_fp8_static",
                                 "gptq_desc_act", "gptq_v2_channel", "awq_gemm"}) {
    const Json golden = read_json(kGoldens + name + "/golden.json");
    const auto source = io::Checkpoint::open(kGoldens + name).value();
    const auto left = export_dense(ctx_, source, {folder_.file(name), false, {}});
    ASSERT_TRUE(left.ok()) << left.error().message;
    const auto out = io::Checkpoint::open(folder_.file(name)).value();
    EXPECT_FALSE(out.config().contains("quantization_config"));
    // BF16 weights, and no quantized activations or cache.
    EXPECT_LE(logit_error(golden, logits(out, golden)), name == "ct_fp8_static" ? 0.15 : 3e-2)
        << name;
  }
}

/// What each change of a good folder must be answered with.
class InterchangeBad : public InterchangeOut {
 protected:
  void expect_error(const std::string& name, const std::vector<std::string>& parts,
                    const std::function<void(Json& quantization)>& change) {
    const std::string copy = folder_.file("bad");
    fs::remove_all(copy);
    fs::copy(kGoldens + name, copy);
    Json config = read_json(copy + "/config.json");
    change(config["quantization_config"]);
    io::write_file_atomic(copy + "/config.json", config.dump()).value();
    const auto checkpoint = io::Checkpoint::open(copy).value();
    const auto model = models::load_model(ctx_, checkpoint, "");
    ASSERT_FALSE(model.ok()) << name << " " << parts[0];
    for (const std::string& part : parts) {
      EXPECT_NE(model.error().message.find(part), std::string::npos)
          << part << " not in: " << model.error().message;
    }
    EXPECT_NE(model.error().message.find(copy), std::string::npos) << model.error().message;
  }
};

TEST_F(InterchangeBad, FieldsOfCompressedTensors) {
  const std::string group = "config_groups.group_0.";
  const auto weights = [&](const char* field, const Json& value) {
    expect_error("ct_asym_g64", {group + "weights." + field, "expected"},
                 [&](Json& q) { q["config_groups"]["group_0"]["weights"][field] = value; });
  };
  weights("num_bits", 3);
  weights("num_bits", 8);
  weights("num_bits", "4");
  weights("type", "float");
  weights("strategy", "block");
  weights("strategy", nullptr);
  weights("group_size", 48);
  weights("group_size", -1);
  weights("group_size", 1e300);
  weights("symmetric", 1);
  weights("dynamic", true);
  weights("actorder", "sideways");
  weights("block_structure", {128, 128});
  const auto root = [&](const char* name, const char* field, const Json& value) {
    expect_error(name, {field, "expected"}, [&](Json& q) { q[field] = value; });
  };
  expect_error("ct_asym_g64", {"quant_method is 'bitsandbytes'", "pack-quantized"},
               [](Json& q) { q["quant_method"] = "bitsandbytes"; });
  root("ct_asym_g64", "format", "marlin-24");
  root("ct_asym_g64", "format", nullptr);
  root("ct_asym_g64", "config_groups", Json::array({1}));
  root("ct_asym_g64", "config_groups", Json::object());
  root("ct_asym_g64", "ignore", "lm_head");
  root("ct_asym_g64", "ignore", {7});
  expect_error("ct_asym_g64", {"ignore", "re:(", "parenthesis"},
               [](Json& q) { q["ignore"] = {"re:("}; });
  root("ct_asym_g64", "quantization_status", "frozen");
  root("ct_asym_g64", "transform_config", {{"config_groups", {{"u", 1}}}});
  root("ct_asym_g64", "sparsity_config", {{"format", "sparse-bitmask"}});
  root("ct_fp8_static", "kv_cache_scheme", {{"num_bits", 4}, {"type", "int"}});
  expect_error("ct_int8", {group + "input_activations", "expected"},
               [](Json& q) { q["config_groups"]["group_0"]["input_activations"] = nullptr; });
  expect_error("ct_int8", {group + "input_activations.strategy"}, [](Json& q) {
    q["config_groups"]["group_0"]["input_activations"]["strategy"] = "group";
  });
  expect_error("ct_fp8", {group + "weights.strategy"},
               [](Json& q) { q["config_groups"]["group_0"]["weights"]["strategy"] = "group"; });
}

TEST_F(InterchangeBad, WhatConfigAndTensorsSayDiffers) {
  expect_error("ct_asym_g64", {"weight_scale", "[128, 4]"},
               [](Json& q) { q["config_groups"]["group_0"]["weights"]["group_size"] = 32; });
  expect_error("ct_asym_g64", {"weight_zero_point", "symmetric"},
               [](Json& q) { q["config_groups"]["group_0"]["weights"]["symmetric"] = true; });
  expect_error("ct_asym_g64", {"down_proj.weight_shape"},
               [](Json& q) { q["ignore"] = {"lm_head"}; });
  expect_error("ct_asym_g64", {"q_proj", "k_proj", "scheme"},
               [](Json& q) { q["ignore"] = {"model.layers.0.self_attn.k_proj"}; });
  expect_error("ct_asym_g64", {"groups of 384", "128"},
               [](Json& q) { q["config_groups"]["group_0"]["weights"]["group_size"] = 384; });
  expect_error("ct_int8", {"q_proj.weight_scale", "[1]"},
               [](Json& q) { q["config_groups"]["group_0"]["weights"]["strategy"] = "tensor"; });
  expect_error("ct_int8", {"k_scale"}, [](Json& q) {
    q["kv_cache_scheme"] = {{"num_bits", 8}, {"type", "float"}, {"strategy", "tensor"}};
  });
  expect_error("gptq_desc_act", {"q_proj.scales", "[1, 128]"},
               [](Json& q) { q["group_size"] = 128; });
}

TEST_F(InterchangeBad, FieldsOfGptqAndAwq) {
  const auto field = [&](const char* name, const char* key, const Json& value) {
    expect_error(name, {key, "expected"}, [&](Json& q) { q[key] = value; });
  };
  field("gptq_desc_act", "bits", 3);
  field("gptq_desc_act", "bits", nullptr);
  field("gptq_desc_act", "group_size", 0);
  field("gptq_desc_act", "group_size", 100);
  field("gptq_desc_act", "checkpoint_format", "marlin");
  field("gptq_desc_act", "is_marlin_format", true);
  field("gptq_desc_act", "dynamic", {{"-:.*", {}}});
  field("gptq_desc_act", "lm_head", true);
  field("awq_gemm", "bits", 8);
  field("awq_gemm", "version", "gemv");
  field("awq_gemm", "zero_point", false);
  field("awq_gemm", "modules_to_not_convert", {3});
}

}  // namespace
}  // namespace comet::quant
