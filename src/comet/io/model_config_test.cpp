#include "comet/io/model_config.h"

#include <gtest/gtest.h>

#include "comet/base/json.h"
#include "support/temporary_folder.h"

namespace comet::io {
namespace {

using comet::testing::TemporaryFolder;

/// LLaMA-3.1-8B as transformers 4 writes it.
Json llama31() {
  return Json::parse(R"({
    "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
    "bos_token_id": 128000, "eos_token_id": [128001, 128008, 128009], "hidden_act": "silu",
    "hidden_size": 4096, "initializer_range": 0.02, "intermediate_size": 14336,
    "max_position_embeddings": 131072, "mlp_bias": false, "model_type": "llama",
    "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
    "pretraining_tp": 1, "rms_norm_eps": 1e-05,
    "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                     "original_max_position_embeddings": 8192, "rope_type": "llama3"},
    "rope_theta": 500000.0, "tie_word_embeddings": false, "torch_dtype": "bfloat16",
    "vocab_size": 128256})");
}

Json with(Json config, const Json& changes) {
  config.update(changes);
  return config;
}

ModelConfig parsed(const Json& config) { return parse_model_config(config, "config.json").value(); }

TEST(ModelConfig, Llama31) {
  const ModelConfig config = parsed(llama31());
  EXPECT_EQ(config.architecture, "LlamaForCausalLM");
  EXPECT_EQ(config.vocab_size, 128256);
  EXPECT_EQ(config.hidden_size, 4096);
  EXPECT_EQ(config.intermediate_size, 14336);
  EXPECT_EQ(config.num_layers, 32);
  EXPECT_EQ(config.num_heads, 32);
  EXPECT_EQ(config.num_kv_heads, 8);
  EXPECT_EQ(config.head_dim, 128);
  EXPECT_EQ(config.max_position_embeddings, 131072);
  EXPECT_EQ(config.rms_norm_eps, 1e-5);
  EXPECT_EQ(config.rope_theta, 500000);
  ASSERT_TRUE(config.rope_scaling.has_value());
  EXPECT_EQ(*config.rope_scaling, (RopeScaling{8, 1, 4, 8192}));
  EXPECT_EQ(config.eos_token_ids, (std::vector<int64_t>{128001, 128008, 128009}));
  EXPECT_EQ(config.bos_token_id, 128000);
  EXPECT_EQ(config.dtype, DType::kBF16);
  EXPECT_EQ(config.quantization_config, nullptr);
  EXPECT_EQ(config.comet_kv_cache, nullptr);
}

TEST(ModelConfig, DefaultsOfOldFiles) {  // LLaMA-1 and 2
  const ModelConfig config = parsed(Json::parse(R"({"model_type": "llama", "vocab_size": 32000,
      "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
      "num_attention_heads": 32, "rope_scaling": null, "bos_token_id": 1, "eos_token_id": 2})"));
  EXPECT_EQ(config.num_kv_heads, 32);
  EXPECT_EQ(config.head_dim, 128);
  EXPECT_EQ(config.rope_theta, 10000);
  EXPECT_EQ(config.rms_norm_eps, 1e-6);
  EXPECT_EQ(config.max_position_embeddings, 2048);
  EXPECT_FALSE(config.rope_scaling.has_value());
  EXPECT_FALSE(config.tie_word_embeddings);
  EXPECT_EQ(config.eos_token_ids, std::vector<int64_t>{2});
  EXPECT_FALSE(config.dtype.has_value());
}

TEST(ModelConfig, RopeParametersOfTransformers5) {
  Json json = llama31();
  Json rope = json["rope_scaling"];
  rope["rope_theta"] = 500000.0;
  json.erase("rope_scaling");
  json.erase("rope_theta");
  json["rope_parameters"] = rope;
  json["dtype"] = "float16";
  json.erase("torch_dtype");
  const ModelConfig config = parsed(json);
  EXPECT_EQ(config.rope_theta, 500000);
  EXPECT_EQ(config.rope_scaling, (RopeScaling{8, 1, 4, 8192}));
  EXPECT_EQ(config.dtype, DType::kF16);
  json["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 1e6}};
  EXPECT_EQ(parsed(json).rope_theta, 1e6);
  EXPECT_FALSE(parsed(json).rope_scaling.has_value());
  json["rope_theta"] = 10000.0;
  EXPECT_FALSE(parse_model_config(json, "c").ok());
  json["rope_theta"] = 1e6;
  EXPECT_TRUE(parse_model_config(json, "c").ok());
  json["rope_scaling"] = llama31()["rope_scaling"];
  EXPECT_FALSE(parse_model_config(json, "c").ok());
}

TEST(ModelConfig, OptionalParts) {
  const Json json = with(llama31(), {{"head_dim", 64},
                                     {"hidden_size", 100},
                                     {"attention_bias", true},
                                     {"mlp_bias", true},
                                     {"tie_word_embeddings", true},
                                     {"eos_token_id", nullptr},
                                     {"bos_token_id", nullptr},
                                     {"rope_scaling", {{"type", "default"}}},
                                     {"sliding_window", 4096},
                                     {"use_sliding_window", false},
                                     {"layer_types", {"full_attention", "full_attention"}},
                                     {"quantization_config", {{"quant_method", "comet"}}},
                                     {"comet_kv_cache", {{"format", "kv4"}}}});
  const ModelConfig config = parsed(json);
  EXPECT_EQ(config.head_dim, 64);
  EXPECT_TRUE(config.qkv_bias && config.o_bias && config.mlp_bias && config.tie_word_embeddings);
  EXPECT_EQ(config.sliding_window, 0);
  EXPECT_EQ(config.max_position_embeddings, 131072);
  EXPECT_TRUE(config.eos_token_ids.empty());
  EXPECT_FALSE(config.bos_token_id.has_value());
  EXPECT_FALSE(config.rope_scaling.has_value());
  EXPECT_EQ((*config.quantization_config)["quant_method"], "comet");
  EXPECT_EQ((*config.comet_kv_cache)["format"], "kv4");
}

TEST(ModelConfig, Mistral) {
  const Json v01 = Json::parse(R"({"architectures": ["MistralForCausalLM"], "vocab_size": 32000,
      "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
      "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 32768,
      "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "sliding_window": 4096,
      "model_type": "mistral", "attention_bias": true})");
  const ModelConfig config = parsed(v01);
  EXPECT_EQ(config.architecture, "MistralForCausalLM");
  EXPECT_FALSE(config.qkv_bias || config.o_bias || config.qk_norm);  // it has no such field
  EXPECT_EQ(config.sliding_window, 4096);
  EXPECT_EQ(config.max_position_embeddings, 4096);  // beyond it full attention would differ
  const ModelConfig v03 = parsed(with(v01, {{"sliding_window", Json()}, {"head_dim", 64}}));
  EXPECT_EQ(v03.sliding_window, 0);
  EXPECT_EQ(v03.max_position_embeddings, 32768);
  EXPECT_EQ(v03.head_dim, 64);
  Json silent = v01;  // transformers' default for the family
  silent.erase("sliding_window");
  EXPECT_EQ(parsed(silent).sliding_window, 4096);
  for (const Json& bad : {Json(0), Json(-1), Json("all")}) {
    EXPECT_FALSE(parse_model_config(with(v01, {{"sliding_window", bad}}), "c").ok()) << bad;
  }
}

TEST(ModelConfig, Qwen) {
  const Json qwen2 = Json::parse(R"({"architectures": ["Qwen2ForCausalLM"], "vocab_size": 152064,
      "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
      "num_attention_heads": 28, "num_key_value_heads": 4, "max_position_embeddings": 32768,
      "max_window_layers": 28, "sliding_window": 131072, "use_sliding_window": false,
      "rope_theta": 1000000.0, "model_type": "qwen2", "tie_word_embeddings": false})");
  const ModelConfig config = parsed(qwen2);
  EXPECT_TRUE(config.qkv_bias);
  EXPECT_FALSE(config.o_bias || config.mlp_bias || config.qk_norm);
  EXPECT_EQ(config.sliding_window, 0);
  EXPECT_EQ(config.head_dim, 128);
  const Json windowed = with(qwen2, {{"use_sliding_window", true}, {"sliding_window", 1024}});
  EXPECT_EQ(parsed(windowed).max_position_embeddings, 1024);
  const Json full_layers = with(windowed, {{"layer_types", {"full_attention"}}});
  EXPECT_EQ(parsed(full_layers).max_position_embeddings, 32768);
  const Json sliding = with(windowed, {{"layer_types", {"full_attention", "sliding_attention"}}});
  EXPECT_EQ(parsed(sliding).max_position_embeddings, 1024);

  Json qwen3 = with(qwen2, {{"architectures", {"Qwen3ForCausalLM"}}, {"attention_bias", false}});
  EXPECT_TRUE(parsed(qwen3).qk_norm);
  EXPECT_FALSE(parsed(qwen3).qkv_bias);
  qwen3["hidden_size"] = 1024;  // head_dim does not follow from it
  EXPECT_EQ(parsed(qwen3).head_dim, 128);
  EXPECT_TRUE(parsed(with(qwen3, {{"attention_bias", true}})).o_bias);
}

TEST(ModelConfig, UnsupportedSettingsNameFieldAndSupport) {
  const std::vector<Json> changes = {
      {{"architectures", {"GemmaForCausalLM"}}},
      {{"architectures", {"LlamaForCausalLM", "MistralForCausalLM"}}},
      {{"architectures", Json::array()}},
      {{"architectures", "LlamaForCausalLM"}},
      {{"architectures", nullptr}, {"model_type", "qwen2_moe"}},
      {{"hidden_act", "gelu"}},
      {{"pretraining_tp", 2}},
      {{"partial_rotary_factor", 0.5}},
      {{"layer_types", {"full_attention", "linear_attention"}}},
      {{"layer_types", "full_attention"}},
      {{"torch_dtype", "float64"}},
  };
  for (const Json& change : changes) {
    const auto config = parse_model_config(with(llama31(), change), "dir/config.json");
    ASSERT_FALSE(config.ok()) << change;
    EXPECT_EQ(config.error().code, ErrorCode::kUnsupported) << change;
    EXPECT_TRUE(config.error().message.starts_with("dir/config.json")) << config.error().message;
    EXPECT_NE(config.error().message.find("supported: "), std::string::npos);
  }
  for (const char* type : {"linear", "dynamic", "yarn", "longrope", "su"}) {
    for (const char* field : {"rope_type", "type"}) {
      const Json change = {{"rope_scaling", {{field, type}, {"factor", 2.0}}}};
      const auto config = parse_model_config(with(llama31(), change), "config.json");
      ASSERT_FALSE(config.ok()) << change;
      EXPECT_EQ(config.error().code, ErrorCode::kUnsupported);
      EXPECT_NE(config.error().message.find(type), std::string::npos);
    }
  }
  EXPECT_FALSE(
      parse_model_config(with(llama31(), {{"rope_scaling", {{"factor", 2.0}}}}), "c").ok());
  EXPECT_FALSE(parse_model_config(with(llama31(), {{"rope_scaling", "llama3"}}), "c").ok());
}

TEST(ModelConfig, BadValuesNameTheField) {
  const std::vector<Json> changes = {
      {{"num_attention_heads", 0}},
      {{"num_attention_heads", -32}},
      {{"num_attention_heads", "32"}},
      {{"num_attention_heads", 32.5}},
      {{"num_hidden_layers", 1'000'000'000}},
      {{"num_hidden_layers", UINT64_MAX}},
      {{"num_hidden_layers", nullptr}},
      {{"hidden_size", 1 << 20}},
      {{"hidden_size", 4097}},  // no multiple of the heads
      {{"vocab_size", 0}},
      {{"vocab_size", 5 << 20}},
      {{"intermediate_size", Json::array()}},
      {{"num_key_value_heads", 5}},
      {{"num_key_value_heads", 0}},
      {{"num_key_value_heads", 64}},
      {{"head_dim", 63}},
      {{"head_dim", 1024}},
      {{"head_dim", 0}},
      {{"max_position_embeddings", 0}},
      {{"rms_norm_eps", -1}},
      {{"rms_norm_eps", "small"}},
      {{"rope_theta", 0}},
      {{"tie_word_embeddings", "yes"}},
      {{"attention_bias", 1}},
      {{"eos_token_id", "2"}},
      {{"eos_token_id", -1}},
      {{"eos_token_id", {1, Json::array()}}},
      {{"eos_token_id", UINT64_MAX}},
      {{"torch_dtype", 16}},
  };
  for (const Json& change : changes) {
    const auto config = parse_model_config(with(llama31(), change), "dir/config.json");
    ASSERT_FALSE(config.ok()) << change;
    EXPECT_EQ(config.error().code, ErrorCode::kInvalidArgument) << change;
    const std::string& message = config.error().message;
    EXPECT_TRUE(message.starts_with("dir/config.json")) << message;
    EXPECT_NE(message.find("'" + change.begin().key() + "'"), std::string::npos) << message;
  }
  // 16 heads divide 4096 into 256, 4096 of 128 are too wide.
  EXPECT_FALSE(
      parse_model_config(with(llama31(), {{"num_attention_heads", 4096}, {"head_dim", 128}}), "c")
          .ok());
  EXPECT_FALSE(parse_model_config(Json::array(), "c").ok());
  EXPECT_FALSE(parse_model_config(Json::object(), "c").ok());
}

TEST(ModelConfig, BadLlama3Scaling) {
  for (const char* field :
       {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"}) {
    for (const Json& value : {Json(nullptr), Json(0), Json(-1), Json("8"), Json(1e300)}) {
      Json json = llama31();
      json["rope_scaling"][field] = value;
      const auto config = parse_model_config(json, "config.json");
      ASSERT_FALSE(config.ok()) << field << value;
      EXPECT_NE(config.error().message.find(field), std::string::npos) << config.error().message;
    }
  }
  Json json = llama31();
  json["rope_scaling"]["high_freq_factor"] = 1.0;  // equal: the formula divides by 0
  EXPECT_FALSE(parse_model_config(json, "c").ok());
}

/// Values of transformers' formulas in NumPy float64.
TEST(RopeInverseFrequencies, MatchesTheFormulas) {
  const auto expect = [](const ModelConfig& config,
                         const std::vector<std::pair<size_t, double>>& values) {
    const std::vector<float> frequencies = rope_inverse_frequencies(config);
    ASSERT_EQ(frequencies.size(), static_cast<size_t>(config.head_dim / 2));
    for (const auto& [i, value] : values) {
      EXPECT_NEAR(frequencies[i] / value, 1.0, 1e-7) << i;
    }
  };
  ModelConfig config = parsed(llama31());
  expect(config, {{0, 1.0},
                  {1, 0.8146172338565447},
                  {28, 0.0032114459947525913},
                  {29, 0.002166570763503359},
                  {30, 0.0013718935677611381},
                  {32, 0.0005248461609929547},
                  {34, 0.00017850781276799638},
                  {35, 9.556212353964683e-05},
                  {36, 7.78465527393245e-05},
                  {63, 3.068925988914511e-07}});
  config.head_dim = 64;  // LLaMA-3.2-1B
  config.rope_scaling->factor = 32;
  expect(config, {{10, 0.016560440080994446},
                  {14, 0.0032114459947525913},
                  {15, 0.001290547928209264},
                  {16, 0.00042955679655936815},
                  {17, 9.70828780262767e-05},
                  {18, 1.9461638184831125e-05},
                  {31, 9.418306725434911e-08}});
  config.rope_scaling.reset();
  config.rope_theta = 10000;
  expect(config, {{0, 1.0}, {1, 0.7498942093324559}, {16, 0.01}, {31, 0.0001333521432163324}});
}

TEST(GenerationConfig, ReadsTheFileOrNothing) {
  const TemporaryFolder folder;
  const GenerationConfig absent = read_generation_config(folder.path()).value();
  EXPECT_TRUE(absent.eos_token_ids.empty());
  EXPECT_FALSE(absent.temperature.has_value());
  folder.write("generation_config.json", R"({"bos_token_id": 8176, "eos_token_id": [8177, 8180],
      "do_sample": true, "temperature": 0.7, "top_p": 0.9, "top_k": 40, "unknown": []})");
  const GenerationConfig config = read_generation_config(folder.path()).value();
  EXPECT_EQ(config.eos_token_ids, (std::vector<int64_t>{8177, 8180}));
  EXPECT_EQ(config.bos_token_id, 8176);
  EXPECT_EQ(config.do_sample, true);
  EXPECT_EQ(config.temperature, 0.7);
  EXPECT_EQ(config.top_p, 0.9);
  EXPECT_EQ(config.top_k, 40);
  EXPECT_FALSE(config.repetition_penalty.has_value());
}

TEST(GenerationConfig, BadFiles) {
  const TemporaryFolder folder;
  for (const char* text : {"", "[]", "{", R"({"temperature": -1})", R"({"top_p": 2})",
                           R"({"top_k": 1.5})", R"({"eos_token_id": "x"})"}) {
    folder.write("generation_config.json", text);
    const auto config = read_generation_config(folder.path());
    ASSERT_FALSE(config.ok()) << text;
    EXPECT_NE(config.error().message.find("generation_config.json"), std::string::npos);
  }
}

}  // namespace
}  // namespace comet::io
