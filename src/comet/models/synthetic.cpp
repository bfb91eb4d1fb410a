#include "comet/models/synthetic.h"

#include <algorithm>
#include <cmath>

#include "comet/formats/w4ax/w4ax.h"
#include "comet/models/synthetic/random_tensors.h"

namespace comet::models {
namespace {

struct Row {
  std::string_view name;
  int64_t hidden, layers, heads, kv_heads, head_dim, ffn, vocab;
  bool tied;
  double rope_theta;
  int64_t context;
  std::string_view architecture = "LlamaForCausalLM";
  std::string_view model_type = "llama";
};

// As published (config.json of each family).
constexpr std::array<Row, 9> kRows{{
    {"110m", 768, 12, 12, 12, 64, 2048, 32000, true, 1e4, 2048},
    {"llama3.2-1b", 2048, 16, 32, 8, 64, 8192, 128256, true, 5e5, 131072},
    {"llama3.2-3b", 3072, 28, 24, 8, 128, 8192, 128256, true, 5e5, 131072},
    {"llama2-7b", 4096, 32, 32, 32, 128, 11008, 32000, false, 1e4, 4096},
    {"llama3-8b", 4096, 32, 32, 8, 128, 14336, 128256, false, 5e5, 8192},
    {"llama3-70b", 8192, 80, 64, 8, 128, 28672, 128256, false, 5e5, 8192},
    {"mistral-7b", 4096, 32, 32, 8, 128, 14336, 32000, false, 1e4, 32768, "MistralForCausalLM",
     "mistral"},
    {"qwen2.5-7b", 3584, 28, 28, 4, 128, 18944, 152064, false, 1e6, 32768, "Qwen2ForCausalLM",
     "qwen2"},
    {"qwen3-8b", 4096, 36, 32, 8, 128, 12288, 151936, false, 1e6, 40960, "Qwen3ForCausalLM",
     "qwen3"},
}};

Result<Json> published_config(std::string_view name) {
  const auto* const row =
      std::find_if(kRows.begin(), kRows.end(), [&](const Row& r) { return r.name == name; });
  if (row == kRows.end()) {
    return make_error(ErrorCode::kInvalidArgument, "--synthetic '{}': expected one of {}", name,
                      synthetic_names());
  }
  return Json{{"architectures", {row->architecture}},
              {"model_type", row->model_type},
              {"vocab_size", row->vocab},
              {"hidden_size", row->hidden},
              {"intermediate_size", row->ffn},
              {"num_hidden_layers", row->layers},
              {"num_attention_heads", row->heads},
              {"num_key_value_heads", row->kv_heads},
              {"head_dim", row->head_dim},
              {"max_position_embeddings", row->context},
              {"sliding_window", nullptr},
              {"rms_norm_eps", 1e-5},
              {"rope_theta", row->rope_theta},
              {"tie_word_embeddings", row->tied},
              {"torch_dtype", "bfloat16"}};
}

/// A w4ax linear of any weights: what its row of the manifest says.
formats::QuantizedWeight w4ax_linear(const formats::LinearSpec& spec,
                                     const SyntheticOptions& options) {
  formats::QuantizedWeight weight;
  weight.name = spec.name;
  weight.parts = spec.parts;
  weight.part_rows = spec.part_rows;
  formats::SiteLayout& site = weight.site;
  const size_t cut = spec.name.rfind('.') + 1;
  const std::string linear = spec.name.substr(cut);
  site.name =
      spec.name.substr(0, cut) + linear.substr(0, linear.size() - 4) + "in";  // x_proj → x_in
  site.k = spec.k;
  site.k_padded = (spec.k + formats::kBlock - 1) / formats::kBlock * formats::kBlock;
  site.int8_blocks = options.int8_share
                         ? static_cast<int64_t>(std::ceil(*options.int8_share *
                                                          static_cast<double>(site.num_blocks())))
                         : std::min(options.int8_blocks, site.num_blocks());
  return weight;
}

formats::ManifestParts manifest_parts(const io::ModelConfig& config,
                                      const SyntheticOptions& options) {
  formats::ManifestParts parts;
  parts.granularity = options.granularity;
  parts.act_scale = options.act_scale;
  parts.int8_lm_head = options.int8_lm_head;
  parts.kv_cache = {
      {"format", options.kv},
      {"rotate", options.kv_options.rotate},
      {"window", {options.kv_options.window_first, options.kv_options.window_recent}}};
  if (options.format != "w4ax") return parts;
  for (int64_t i = 0; i < config.num_layers; ++i) {
    for (const formats::LinearSpec& spec : llama_linear_specs(config, i)) {
      formats::PackedLinear rows;
      formats::w4ax::describe(w4ax_linear(spec, options), rows);
      parts.sites.push_back(std::move(rows.site));
      parts.linears.push_back(std::move(rows.linear));
    }
  }
  return parts;
}

/// Counts what a model asks for.
class CountingSource final : public formats::TensorSource {
 public:
  explicit CountingSource(const formats::TensorSource& source) : source_(source) {}
  [[nodiscard]] bool contains(std::string_view name) const override {
    return source_.contains(name);
  }
  [[nodiscard]] Result<Tensor> get(std::string_view name, std::span<const DType> dtypes,
                                   const Shape& shape) const override {
    auto tensor = source_.get(name, dtypes, shape);
    if (tensor) num_bytes_ += tensor->num_bytes();
    return tensor;
  }
  [[nodiscard]] int64_t num_bytes() const { return num_bytes_; }

 private:
  const formats::TensorSource& source_;
  mutable int64_t num_bytes_ = 0;
};

}  // namespace

std::string synthetic_names() {
  std::string names;
  for (const Row& row : kRows) names += (names.empty() ? "" : ", ") + std::string(row.name);
  return names;
}

Result<io::ModelConfig> synthetic_config(std::string_view name) {
  const auto published = published_config(name);
  if (!published) return published.error();
  return io::parse_model_config(*published, fmt::format("synthetic {}", name));
}

Result<Json> synthetic_config_json(std::string_view name, const SyntheticOptions& options) {
  auto json = published_config(name);
  if (!json) return json.error();
  const auto config = synthetic_config(name);
  if (!config) return config.error();
  const auto weights = formats::find_weight_format(options.format);
  if (!weights) return weights.error();
  const formats::ManifestParts parts = manifest_parts(*config, options);
  if ((*weights)->manifest != nullptr) {
    (*json)["quantization_config"] = (*weights)->manifest(parts);
  }
  // Comet's own format keeps the cache in its manifest, the others beside it.
  if (!json->contains("quantization_config") ||
      !(*json)["quantization_config"].contains("kv_cache")) {
    (*json)["comet_kv_cache"] = parts.kv_cache;
  }
  return json;
}

Result<int64_t> synthetic_bytes(Context& ctx, const io::ModelConfig& config,
                                const ModelFormat& format, const formats::TensorSource& tensors) {
  const CountingSource layer(tensors);
  if (auto loaded = LlamaLayer::load(config, 0, format, layer, ctx.caps); !loaded) {
    return loaded.error();
  }
  const int64_t table = config.vocab_size * config.hidden_size;
  const int64_t norm = config.hidden_size * int64_t{sizeof(float)};
  const bool int8_head = format.lm_head->name != "dense";
  int64_t head = int8_head ? table + config.vocab_size * int64_t{sizeof(float)} : 2 * table;
  // A tied head is the table itself, of which a GPU has a copy as products read it.
  if (!int8_head && config.tie_word_embeddings && ctx.cuda == nullptr) head = 0;
  return config.num_layers * layer.num_bytes() + 2 * table + norm + head;
}

Result<std::unique_ptr<LlamaModel>> make_synthetic_model(Context& ctx, std::string_view name,
                                                         const SyntheticOptions& options) {
  const auto json = synthetic_config_json(name, options);
  if (!json) return json.error();
  const std::string source = fmt::format("synthetic {}", name);
  const auto config = io::parse_model_config(*json, source);
  if (!config) return config.error();
  auto format = parse_model_format(*config, source);
  if (!format) return format.error();
  if (options.int8_lm_head) format->lm_head = *formats::find_weight_format("w8a8-int");
  const RandomTensors tensors(ctx, *config, options);
  const auto num_bytes = synthetic_bytes(ctx, *config, *format, tensors);
  if (!num_bytes) return num_bytes.error();
  if (const Status fits = check_device_memory(ctx, source, *num_bytes); !fits) return fits.error();
  auto model = LlamaModel::load(*config, *format, tensors, ctx.caps);
  if (!model) return model.error();
  if (const Status moved = model->move_to_device(ctx); !moved) return moved.error();
  return std::make_unique<LlamaModel>(*std::move(model));
}

}  // namespace comet::models
