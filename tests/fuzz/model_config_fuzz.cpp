// config.json → ModelConfig and ModelFormat. The input is read as a whole file, and as an RFC 7386
// patch of a good LLaMA-3.1 one, so that short inputs get past the required fields. What parses
// must have sizes a model may allocate by.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>

#include "comet/base/check.h"
#include "comet/base/json.h"
#include "comet/io/model_config.h"
#include "comet/models/llama.h"

namespace {

using comet::Json;

void use(const Json& json) {
  const auto config = comet::io::parse_model_config(json, "config.json");
  if (!config.ok()) {
    COMET_CHECK(config.error().message.starts_with("config.json"), "{}", config.error().message);
    return;
  }
  COMET_CHECK(config->num_heads % config->num_kv_heads == 0 && config->head_dim % 2 == 0);
  COMET_CHECK(config->max_position_embeddings >= 1 && config->num_layers >= 1);
  for (const float frequency : comet::io::rope_inverse_frequencies(*config)) {
    COMET_CHECK(std::isfinite(frequency) && frequency >= 0.0F, "{}", frequency);
  }
  (void)comet::models::parse_model_format(*config, "config.json");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(data, data + size);
  const auto json = comet::parse_json(text, "config.json", {.max_depth = 24});
  if (!json.ok()) return 0;
  use(*json);
  if (!json->is_object()) return 0;
  Json file = Json::parse(R"({"architectures": ["LlamaForCausalLM"], "vocab_size": 256,
      "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
      "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
      "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                       "high_freq_factor": 4.0, "original_max_position_embeddings": 128}})");
  file.merge_patch(*json);
  use(file);
  return 0;
}
