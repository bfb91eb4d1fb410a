#include "comet/io/architecture.h"

#include <algorithm>
#include <array>

namespace comet::io {
namespace {

constexpr std::array<Architecture, 4> kArchitectures{{
    {"LlamaForCausalLM", "llama", AttentionBias::kConfigured, false, 0, 0, 2048, 0, true},
    {"MistralForCausalLM", "mistral", AttentionBias::kNone, false, 8, 0, 131072, 4096, true},
    {"Qwen2ForCausalLM", "qwen2", AttentionBias::kQkv, false, 32, 0, 32768, 4096, false},
    {"Qwen3ForCausalLM", "qwen3", AttentionBias::kConfigured, true, 32, 128, 32768, 4096, false},
}};

constexpr int64_t kMaxWindow = int64_t{1} << 26;

std::string listed(std::string_view Architecture::* field) {
  std::string names;
  for (const Architecture& row : kArchitectures) {
    names += (names.empty() ? "" : ", ") + std::string(row.*field);
  }
  return names;
}

const Architecture* find(std::string_view Architecture::* field, std::string_view name) {
  const auto* const row =
      std::find_if(kArchitectures.begin(), kArchitectures.end(),
                   [&](const Architecture& candidate) { return candidate.*field == name; });
  return row == kArchitectures.end() ? nullptr : row;
}

}  // namespace

std::span<const Architecture> architectures() { return kArchitectures; }

const Architecture& find_architecture(ConfigFields& fields) {
  const Architecture* row = nullptr;
  if (const Json* names = fields.find("architectures"); names != nullptr) {
    if (names->is_array() && names->size() == 1 && (*names)[0].is_string()) {
      row = find(&Architecture::name, (*names)[0].get_ref<const std::string&>());
    }
    if (row == nullptr) {
      fields.unsupported("architectures", shown(*names),
                         "supported: one of " + listed(&Architecture::name));
    }
  } else {
    const auto model_type = fields.string("model_type");
    row = find(&Architecture::model_type, model_type.value_or(""));
    if (row == nullptr) {
      fields.unsupported("model_type", model_type.value_or("missing"),
                         "supported: " + listed(&Architecture::model_type));
    }
  }
  return row == nullptr ? kArchitectures.front() : *row;
}

int64_t read_sliding_window(ConfigFields& fields, const Json& config, const Architecture& row) {
  const bool used = fields.boolean("use_sliding_window").value_or(row.use_sliding_window);
  bool any_layer = true;
  if (const Json* types = fields.find("layer_types")) {
    const auto count = [&](const char* name) {
      return types->is_array() ? std::count(types->begin(), types->end(), name) : 0;
    };
    const auto num_sliding = count("sliding_attention");
    if (!types->is_array() ||
        count("full_attention") + num_sliding != static_cast<int64_t>(types->size())) {
      fields.unsupported("layer_types", shown(*types),
                         "supported: full_attention or sliding_attention in every layer");
    }
    any_layer = num_sliding > 0;
  }
  const auto window = fields.integer("sliding_window", 1, kMaxWindow);
  if (!used || !any_layer) return 0;
  // null says that there is none; only silence means the family's default.
  return window.value_or(config.contains("sliding_window") ? 0 : row.sliding_window);
}

}  // namespace comet::io
