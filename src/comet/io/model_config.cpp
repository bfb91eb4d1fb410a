#include "comet/io/model_config.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numbers>
#include <utility>

#include "comet/base/json.h"
#include "comet/io/architecture.h"
#include "comet/io/config_fields.h"
#include "comet/io/file.h"

namespace comet::io {
namespace {

constexpr int64_t kMaxVocab = 4 << 20;
constexpr int64_t kMaxHidden = 65536;
constexpr int64_t kMaxIntermediate = 1 << 20;
constexpr int64_t kMaxLayers = 1024;
constexpr int64_t kMaxHeads = 4096;
constexpr int64_t kMaxHeadDim = 512;
constexpr int64_t kMaxAttentionWidth = 131072;  // num_attention_heads * head_dim
constexpr int64_t kMaxPositions = 1 << 26;

/// Settings that change the arithmetic in ways Comet does not implement.
void check_unsupported(ConfigFields& fields) {
  const auto hidden_act = fields.string("hidden_act");
  if (hidden_act && *hidden_act != "silu") {
    fields.unsupported("hidden_act", *hidden_act, "supported: silu");
  }
  const auto tp = fields.integer("pretraining_tp", 0, INT32_MAX);
  if (tp && *tp > 1) {
    fields.unsupported("pretraining_tp", std::to_string(*tp),
                       "supported: 1 (the weights are the same; set it to 1)");
  }
  const auto rotary = fields.number("partial_rotary_factor", 0, 1);
  if (rotary && *rotary != 1) {
    fields.unsupported("partial_rotary_factor", std::to_string(*rotary), "supported: 1");
  }
}

void read_sizes(ConfigFields& fields, const Architecture& row, ModelConfig& config) {
  config.vocab_size = fields.required_integer("vocab_size", 1, kMaxVocab);
  config.hidden_size = fields.required_integer("hidden_size", 1, kMaxHidden);
  config.intermediate_size = fields.required_integer("intermediate_size", 1, kMaxIntermediate);
  config.num_layers = fields.required_integer("num_hidden_layers", 1, kMaxLayers);
  config.num_heads = fields.required_integer("num_attention_heads", 1, kMaxHeads);
  config.num_kv_heads = fields.integer("num_key_value_heads", 1, kMaxHeads)
                            .value_or(row.num_kv_heads > 0 ? row.num_kv_heads : config.num_heads);
  config.max_position_embeddings = fields.integer("max_position_embeddings", 1, kMaxPositions)
                                       .value_or(row.max_position_embeddings);
  auto head_dim = fields.integer("head_dim", 2, kMaxHeadDim);
  if (!head_dim && row.head_dim > 0) head_dim = row.head_dim;
  config.head_dim = head_dim.value_or(config.hidden_size / config.num_heads);
  if (fields.error()) return;

  const auto refuse = [&](std::string_view field, std::string found, std::string_view expected) {
    fields.fail(make_error(ErrorCode::kInvalidArgument, "{}: field '{}' is {}; expected {}",
                           fields.source(), field, found, expected));
  };
  if (!head_dim && config.hidden_size % config.num_heads != 0) {
    refuse("hidden_size", std::to_string(config.hidden_size),
           fmt::format("a multiple of num_attention_heads ({}), or a head_dim", config.num_heads));
  }
  if (config.num_heads % config.num_kv_heads != 0) {
    refuse("num_key_value_heads", std::to_string(config.num_kv_heads),
           fmt::format("a divisor of num_attention_heads ({})", config.num_heads));
  }
  if (config.head_dim < 2 || config.head_dim > kMaxHeadDim || config.head_dim % 2 != 0) {
    refuse("head_dim", std::to_string(config.head_dim),
           fmt::format("an even number from 2 to {}", kMaxHeadDim));
  }
  if (config.num_heads * config.head_dim > kMaxAttentionWidth) {
    refuse("num_attention_heads", std::to_string(config.num_heads),
           fmt::format("num_attention_heads * head_dim of at most {}", kMaxAttentionWidth));
  }
}

/// One of the two objects that describe RoPE; rope_theta may stand in it. Empty: plain RoPE.
std::optional<RopeScaling> read_rope_object(ConfigFields& fields, std::string_view field,
                                            std::optional<double>& theta) {
  const Json* object = fields.find(field);
  if (object == nullptr) return std::nullopt;
  ConfigFields rope(*object, fmt::format("{}: '{}'", fields.source(), field));
  auto type = rope.string("rope_type");
  if (!type) type = rope.string("type");
  theta = rope.number("rope_theta", 1, 1e15);
  const auto rotary = rope.number("partial_rotary_factor", 0, 1);
  std::optional<RopeScaling> scaling;
  if (!object->is_object()) {
    rope.unsupported(field, shown(*object), "supported: null or an object");
  } else if (rotary && *rotary != 1) {
    rope.unsupported("partial_rotary_factor", std::to_string(*rotary), "supported: 1");
  } else if (type == "llama3") {
    scaling.emplace();
    scaling->original_max_position_embeddings =
        rope.required_integer("original_max_position_embeddings", 1, kMaxPositions);
    for (const auto& [name, value] : {std::pair{"factor", &scaling->factor},
                                      {"low_freq_factor", &scaling->low_freq_factor},
                                      {"high_freq_factor", &scaling->high_freq_factor}}) {
      const auto number = rope.number(name, 1e-3, 1e6);
      if (!number) {
        rope.fail(make_error(ErrorCode::kInvalidArgument,
                             "{}: field '{}' is missing; rope_type llama3 needs it", rope.source(),
                             name));
      }
      *value = number.value_or(1);
    }
    if (scaling->high_freq_factor <= scaling->low_freq_factor) {
      rope.fail(make_error(ErrorCode::kInvalidArgument,
                           "{}: field 'high_freq_factor' is {}; expected more than "
                           "low_freq_factor, {}",
                           rope.source(), scaling->high_freq_factor, scaling->low_freq_factor));
    }
  } else if (type.value_or("default") != "default" || (!type && !rope.error() && !theta)) {
    rope.unsupported("rope_type", type.value_or("missing"), "supported: default, llama3");
  }
  if (rope.error()) fields.fail(*rope.error());
  return scaling;
}

/// Top-level rope_theta and rope_scaling (transformers 4), or rope_parameters (transformers 5);
/// where both stand they must agree.
void read_rope(ConfigFields& fields, ModelConfig& config) {
  const auto top_theta = fields.number("rope_theta", 1, 1e15);
  std::optional<double> theta;
  config.rope_scaling = read_rope_object(fields, "rope_scaling", theta);
  if (fields.find("rope_parameters") != nullptr) {
    const auto parameters = read_rope_object(fields, "rope_parameters", theta);
    const bool differs =
        (fields.find("rope_scaling") != nullptr && parameters != config.rope_scaling) ||
        (theta && top_theta && *theta != *top_theta);
    if (differs) {
      fields.fail(make_error(ErrorCode::kInvalidArgument,
                             "{}: fields 'rope_parameters' and 'rope_scaling' or 'rope_theta' "
                             "contradict each other; remove the wrong ones",
                             fields.source()));
    }
    config.rope_scaling = parameters;
  }
  config.rope_theta = theta.value_or(top_theta.value_or(10000));
}

void read_dtype(ConfigFields& fields, ModelConfig& config) {
  for (const char* field : {"torch_dtype", "dtype"}) {
    const auto name = fields.string(field);
    if (!name || *name == "auto") continue;
    if (*name == "bfloat16") {
      config.dtype = DType::kBF16;
    } else if (*name == "float16") {
      config.dtype = DType::kF16;
    } else if (*name == "float32") {
      config.dtype = DType::kF32;
    } else {
      fields.unsupported(field, *name, "supported: bfloat16, float16, float32");
    }
  }
}

std::shared_ptr<const Json> copy_of(const Json* value) {
  return value == nullptr ? nullptr : std::make_shared<const Json>(*value);
}

}  // namespace

Result<ModelConfig> parse_model_config(const Json& json, const std::string& source) {
  if (!json.is_object()) {
    return make_error(ErrorCode::kCorrupt, "{}: holds {}; expected a JSON object", source,
                      json.type_name());
  }
  ConfigFields fields(json, source);
  ModelConfig config;
  const Architecture& row = find_architecture(fields);
  config.architecture = row.name;
  config.qk_norm = row.qk_norm;
  check_unsupported(fields);
  read_sizes(fields, row, config);
  config.sliding_window = read_sliding_window(fields, json, row);
  if (config.sliding_window > 0) {
    config.max_position_embeddings =
        std::min(config.max_position_embeddings, config.sliding_window);
  }
  read_rope(fields, config);
  read_dtype(fields, config);
  config.rms_norm_eps = fields.number("rms_norm_eps", 0, 1).value_or(1e-6);
  config.tie_word_embeddings = fields.boolean("tie_word_embeddings").value_or(false);
  config.o_bias = row.attention_bias == AttentionBias::kConfigured &&
                  fields.boolean("attention_bias").value_or(false);
  config.qkv_bias = config.o_bias || row.attention_bias == AttentionBias::kQkv;
  config.mlp_bias = fields.boolean("mlp_bias").value_or(false);
  config.bos_token_id = fields.integer("bos_token_id", 0, INT32_MAX);
  config.eos_token_ids = fields.token_ids("eos_token_id");
  config.quantization_config = copy_of(fields.find("quantization_config"));
  config.comet_kv_cache = copy_of(fields.find("comet_kv_cache"));
  if (fields.error()) return *fields.error();
  return config;
}

std::vector<float> rope_inverse_frequencies(const ModelConfig& config) {
  const auto dim = static_cast<double>(config.head_dim);
  std::vector<float> frequencies;
  for (int64_t i = 0; i < config.head_dim / 2; ++i) {
    const double frequency = std::pow(config.rope_theta, -2.0 * static_cast<double>(i) / dim);
    if (!config.rope_scaling) {
      frequencies.push_back(static_cast<float>(frequency));
      continue;
    }
    const RopeScaling& scaling = *config.rope_scaling;
    const double turns = static_cast<double>(scaling.original_max_position_embeddings) * frequency /
                         (2 * std::numbers::pi);  // of the original context: length / wavelength
    // 0 below low_freq_factor turns (wholly stretched), 1 above high_freq_factor (untouched).
    const double kept = std::clamp(
        (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor),
        0.0, 1.0);
    frequencies.push_back(
        static_cast<float>((1 - kept) * frequency / scaling.factor + kept * frequency));
  }
  return frequencies;
}

Result<GenerationConfig> read_generation_config(const std::string& directory) {
  constexpr size_t kMaxBytes = size_t{16} << 20;
  const std::string path = (std::filesystem::path(directory) / "generation_config.json").string();
  const auto text = read_file(path, kMaxBytes);
  if (!text && text.error().code == ErrorCode::kNotFound) return GenerationConfig{};
  if (!text) return text.error();
  const auto json = parse_json(*text, path);
  if (!json) return json.error();
  if (!json->is_object()) {
    return make_error(ErrorCode::kCorrupt, "{}: holds {}; expected a JSON object", path,
                      json->type_name());
  }
  ConfigFields fields(*json, path);
  GenerationConfig config;
  config.eos_token_ids = fields.token_ids("eos_token_id");
  config.bos_token_id = fields.integer("bos_token_id", 0, INT32_MAX);
  config.do_sample = fields.boolean("do_sample");
  config.temperature = fields.number("temperature", 0, 1000);
  config.top_p = fields.number("top_p", 0, 1);
  config.top_k = fields.integer("top_k", 0, INT32_MAX);
  config.repetition_penalty = fields.number("repetition_penalty", 0, 1000);
  if (fields.error()) return *fields.error();
  return config;
}

}  // namespace comet::io
