// A decoder of two layers with random weights, of each family, in memory or as a checkpoint, for
// tests of quant.
#pragma once

#include <cmath>
#include <filesystem>
#include <string>

#include "comet/base/json.h"
#include "comet/base/rng.h"
#include "comet/io/file.h"
#include "comet/io/model_config.h"
#include "comet/io/safetensors_writer.h"
#include "comet/models/llama.h"
#include "comet/models/load.h"
#include "comet/quant/layer/calibration.h"
#include "comet/quant/matrix.h"

namespace comet::testing {

inline quant::Matrix random_matrix(int64_t rows, int64_t cols, uint64_t seed, float scale = 1.0F) {
  quant::Matrix m(rows, cols);
  Rng rng(seed);
  for (float& x : m.values) x = scale * rng.next_normal();
  return m;
}

/// Channels of no site but one are a multiple of 128; two query heads share a KV head.
enum class TinyModel { kLlama, kBiases, kQwen2, kQwen3 };

inline Json tiny_config(TinyModel variant) {
  const bool biases = variant == TinyModel::kBiases;
  const char* name = variant == TinyModel::kQwen2   ? "Qwen2ForCausalLM"
                     : variant == TinyModel::kQwen3 ? "Qwen3ForCausalLM"
                                                    : "LlamaForCausalLM";
  return {{"architectures", {name}},
          {"vocab_size", 160},
          {"max_position_embeddings", 64},
          {"rms_norm_eps", 1e-5},
          {"rope_theta", 10000.0},
          {"hidden_act", "silu"},
          {"tie_word_embeddings", true},
          {"attention_bias", biases},
          {"mlp_bias", biases},
          {"bos_token_id", 0},
          {"eos_token_id", 1},
          {"hidden_size", 192},
          {"intermediate_size", 300},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 8},
          {"num_key_value_heads", 4},
          {"head_dim", 32}};
}

inline io::ModelConfig tiny_model_config(TinyModel variant) {
  return io::parse_model_config(tiny_config(variant), "config.json").value();
}

inline Tensor random_tensor(const Shape& shape, uint64_t seed, float mean, float scale) {
  const auto bytes = static_cast<size_t>(shape.num_elements()) * sizeof(BFloat16);
  Tensor tensor(std::make_shared<Storage>(host_allocator(), bytes), 0, DType::kBF16, shape);
  Rng rng(seed);
  for (int64_t i = 0; i < shape.num_elements(); ++i) {
    tensor.data<BFloat16>()[i] = to_bfloat16(mean + scale * rng.next_normal());
  }
  return tensor;
}

using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

/// Every tensor of the model in BF16.
inline NamedTensors tiny_tensors(const io::ModelConfig& config) {
  NamedTensors tensors;
  uint64_t seed = 1;
  const auto add = [&](const std::string& name, const Shape& shape, float mean, float scale) {
    tensors.emplace_back(name, random_tensor(shape, seed++, mean, scale));
  };
  add("model.embed_tokens.weight", {config.vocab_size, config.hidden_size}, 0.0F, 0.5F);
  for (int64_t i = 0; i < config.num_layers; ++i) {
    for (const models::NormSpec& norm : models::llama_norm_specs(config, i)) {
      add(norm.name, {norm.size}, 1.0F, 0.2F);
    }
    for (const formats::LinearSpec& spec : models::llama_linear_specs(config, i)) {
      for (size_t p = 0; p < spec.parts.size(); ++p) {
        const float scale = 1.0F / std::sqrt(static_cast<float>(spec.k));
        add(spec.prefix + spec.parts[p] + ".weight", {spec.part_rows[p], spec.k}, 0.0F, scale);
        if (spec.has_bias) {
          add(spec.prefix + spec.parts[p] + ".bias", {spec.part_rows[p]}, 0.0F, 0.1F);
        }
      }
    }
  }
  add("model.norm.weight", {config.hidden_size}, 1.0F, 0.2F);
  return tensors;
}

inline models::MemorySource memory_source(const NamedTensors& tensors) {
  models::MemorySource source;
  for (const auto& [name, tensor] : tensors) source.put(name, tensor);
  return source;
}

inline quant::CalibrationSet random_samples(int64_t count, int64_t length, uint64_t seed) {
  quant::CalibrationSet set;
  Rng rng(seed);
  for (int64_t i = 0; i < count; ++i) {
    std::vector<int32_t>& sample = set.samples.emplace_back();
    for (int64_t t = 0; t < length; ++t) {
      sample.push_back(static_cast<int32_t>(rng.next_below(160)));
    }
  }
  return set;
}

/// Writes the tiny model, with a stand-in for a tokenizer file.
inline void write_tiny_checkpoint(const std::string& directory, TinyModel variant,
                                  const NamedTensors& tensors) {
  std::filesystem::remove_all(directory);
  std::filesystem::create_directories(directory);
  io::write_file_atomic(directory + "/config.json", tiny_config(variant).dump()).value();
  io::write_file_atomic(directory + "/tokenizer.json", "{}").value();
  auto writer = io::SafetensorsWriter::create(directory).value();
  for (const auto& [name, tensor] : tensors) writer.append(name, tensor).value();
  writer.finish().value();
}

}  // namespace comet::testing
