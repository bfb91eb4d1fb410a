// ModelConfig: what config.json says about a model of a known architecture (LLaMA, Mistral, Qwen2,
// Qwen3), checked and bounded, so that models may allocate by it. A setting Comet cannot run is
// kUnsupported, never ignored. Callers: models, quant, apps. GenerationConfig: the optional
// generation_config.json.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "comet/base/result.h"
#include "comet/tensor/dtype.h"

namespace comet {
using Json = nlohmann::json;  // as in comet/base/json.h
}

namespace comet::io {

/// LLaMA-3.1's stretching of the low rotary frequencies (rope_type "llama3").
struct RopeScaling {
  double factor = 1;
  double low_freq_factor = 1;
  double high_freq_factor = 4;
  int64_t original_max_position_embeddings = 8192;
  bool operator==(const RopeScaling&) const = default;
};

struct ModelConfig {
  std::string architecture;  // "LlamaForCausalLM": a row of architecture.h
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t num_layers = 0;
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
  int64_t max_position_embeddings = 0;  // longest context; at most sliding_window
  double rms_norm_eps = 1e-6;
  double rope_theta = 10000;
  std::optional<RopeScaling> rope_scaling;  // empty: plain RoPE
  bool tie_word_embeddings = false;
  bool qkv_bias = false;
  bool o_bias = false;
  bool mlp_bias = false;
  bool qk_norm = false;  // Qwen3: RMSNorm on every head of q and k, before RoPE
  /// Tokens that a position sees; 0: all. Full attention is the same up to that context, which
  /// therefore bounds max_position_embeddings.
  int64_t sliding_window = 0;
  std::optional<int64_t> bos_token_id;
  std::vector<int64_t> eos_token_ids;
  std::optional<DType> dtype;  // as config.json says (torch_dtype or dtype); tensors decide
  std::shared_ptr<const Json> quantization_config;  // nullptr when absent
  std::shared_ptr<const Json> comet_kv_cache;       // nullptr when absent
};

/// `source` (the path of config.json) opens every error message.
Result<ModelConfig> parse_model_config(const Json& config, const std::string& source);

/// head_dim/2 values: rope_theta^(−2i/head_dim), with LLaMA-3.1's rule where it is asked for
/// (wavelengths above original/low_freq_factor are divided by `factor`, those below
/// original/high_freq_factor kept, linear in 1/wavelength between). Computed in double.
std::vector<float> rope_inverse_frequencies(const ModelConfig& config);

struct GenerationConfig {
  std::vector<int64_t> eos_token_ids;  // empty when the file is silent: ModelConfig's hold
  std::optional<int64_t> bos_token_id;
  std::optional<bool> do_sample;
  std::optional<double> temperature;
  std::optional<double> top_p;
  std::optional<int64_t> top_k;
  std::optional<double> repetition_penalty;
};

/// generation_config.json of `directory`; all fields empty when there is no such file.
Result<GenerationConfig> read_generation_config(const std::string& directory);

}  // namespace comet::io
