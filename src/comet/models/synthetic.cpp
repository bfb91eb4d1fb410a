#include "comet/models/synthetic.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "comet/base/rng.h"

namespace comet::models {
namespace {

struct Row {
  std::string_view name;
  int64_t hidden, layers, heads, kv_heads, head_dim, ffn, vocab;
  bool tied;
  double rope_theta;
  int64_t context;
  std::string_view architecture = "LlamaForCausalLM";
};

// As published (config.json of each family).
constexpr std::array<Row, 9> kRows{{
    {"110m", 768, 12, 12, 12, 64, 2048, 32000, true, 1e4, 2048},
    {"llama3.2-1b", 2048, 16, 32, 8, 64, 8192, 128256, true, 5e5, 131072},
    {"llama3.2-3b", 3072, 28, 24, 8, 128, 8192, 128256, true, 5e5, 131072},
    {"llama2-7b", 4096, 32, 32, 32, 128, 11008, 32000, false, 1e4, 4096},
    {"llama3-8b", 4096, 32, 32, 8, 128, 14336, 128256, false, 5e5, 8192},
    {"llama3-70b", 8192, 80, 64, 8, 128, 28672, 128256, false, 5e5, 8192},
    {"mistral-7b", 4096, 32, 32, 8, 128, 14336, 32000, false, 1e4, 32768, "MistralForCausalLM"},
    {"qwen2.5-7b", 3584, 28, 28, 4, 128, 18944, 152064, false, 1e6, 32768, "Qwen2ForCausalLM"},
    {"qwen3-8b", 4096, 36, 32, 8, 128, 12288, 151936, false, 1e6, 40960, "Qwen3ForCausalLM"},
}};

constexpr int64_t kChunk = int64_t{1} << 16;  // elements filled by one task

/// Normal values with this standard deviation, from a table of quantiles (a draw costs a look-up).
Tensor gaussian_bf16(Context& ctx, const Shape& shape, float stddev, uint64_t seed,
                     uint64_t stream) {
  constexpr size_t kTable = 4096;
  std::vector<uint16_t> table(kTable);
  Rng rng(seed, 1);
  for (uint16_t& value : table) value = to_bfloat16(stddev * rng.next_normal()).bits;
  const Rng draws(seed, stream);
  Tensor tensor(std::make_shared<Storage>(host_allocator(), shape.num_elements() * 2), 0,
                DType::kBF16, shape);
  auto* out = reinterpret_cast<uint16_t*>(tensor.raw());
  const int64_t total = shape.num_elements();
  ctx.pool.parallel_for((total + kChunk - 1) / kChunk, [&](int64_t task, int) {
    const int64_t end = std::min(total, (task + 1) * kChunk);
    for (int64_t i = task * kChunk; i < end; i += 4) {
      const uint64_t bits = draws.bits(static_cast<uint64_t>(i));
      for (int64_t j = 0; j < std::min<int64_t>(4, end - i); ++j) {
        out[i + j] = table[(bits >> (16 * j)) % kTable];
      }
    }
  });
  return tensor;
}

void fill_random_codes(Context& ctx, std::vector<int8_t>& codes, int64_t row_length,
                       int64_t used_length, const Rng& rng) {
  const int64_t num_rows = static_cast<int64_t>(codes.size()) / row_length;
  ctx.pool.parallel_for(num_rows, [&](int64_t row, int) {
    for (int64_t i = 0; i < used_length; i += 16) {
      const uint64_t bits = rng.bits(static_cast<uint64_t>(row * row_length + i));
      for (int64_t j = 0; j < std::min<int64_t>(16, used_length - i); ++j) {
        codes[row * row_length + i + j] = static_cast<int8_t>(((bits >> (4 * j)) & 15) - 8);
      }
    }
  });
}

bool is_w8a8(const std::string& format) { return format == "w8a8-int" || format == "w8a8-fp8"; }

/// Codes in [−127, 127], or of E4M3 numbers in ±[½, 2).
void fill_8bit_codes(Context& ctx, formats::QuantizedWeight& weight, const Rng& rng) {
  const int64_t k = weight.site.k;
  const bool fp8 = weight.code_type == formats::CodeType::kE4M3;
  ctx.pool.parallel_for(weight.num_rows(), [&](int64_t row, int) {
    int8_t* codes = weight.codes.data() + row * k;
    for (int64_t i = 0; i < k; i += 4) {
      const uint64_t bits = rng.bits(static_cast<uint64_t>(row * k + i));
      for (int64_t j = 0; j < std::min<int64_t>(4, k - i); ++j) {
        const auto value = static_cast<int>((bits >> (16 * j)) & 0xFFFFU);
        codes[i + j] = static_cast<int8_t>(fp8 ? (value & 0x8F) | 0x30 : value % 255 - 127);
      }
    }
  });
}

formats::QuantizedWeight random_w8a8(Context& ctx, const formats::LinearSpec& spec,
                                     const SyntheticOptions& options, uint64_t stream) {
  formats::QuantizedWeight weight;
  weight.name = spec.name;
  weight.parts = spec.parts;
  weight.part_rows = spec.part_rows;
  weight.site.k = spec.k;
  weight.site.k_padded = spec.k;
  weight.site.scale = formats::ActScale::kToken;
  const bool fp8 = options.format == "w8a8-fp8";
  if (fp8) weight.code_type = formats::CodeType::kE4M3;
  const int64_t rows = weight.num_rows();
  if (spec.has_bias) weight.bias.assign(rows, 0.02F);
  weight.codes.resize(rows * spec.k);
  fill_8bit_codes(ctx, weight, Rng(options.seed, stream));
  // Codes have a standard deviation of 73.6 or of 1.2: weights get one of 0.02.
  weight.channel_scale.assign(rows, to_float(to_bfloat16(fp8 ? 0.02F / 1.2F : 0.02F / 73.6F)));
  weight.channel_scale_type = DType::kBF16;
  return weight;
}

formats::QuantizedWeight random_weight(Context& ctx, const formats::LinearSpec& spec,
                                       const SyntheticOptions& options, uint64_t stream) {
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
  site.scale = options.act_scale;
  weight.granularity = options.granularity;
  const int64_t rows = weight.num_rows();
  if (spec.has_bias) weight.bias.assign(rows, 0.02F);
  weight.codes.resize(rows * site.k_padded);
  fill_random_codes(ctx, weight.codes, site.k_padded, site.k, Rng(options.seed, stream));
  // A uniform code has variance 21.25 (standard deviation 4.6): this gives weights a deviation of
  // 0.02.
  constexpr float kScale = 0.02F / 4.6F;
  const int64_t groups = site.num_blocks();
  if (options.granularity == formats::Granularity::kGroup) {
    weight.group_scale.assign(groups * rows, to_float(to_float16(kScale)));
  } else {
    weight.channel_scale.assign(
        rows, options.granularity == formats::Granularity::kChannel ? kScale : kScale / 8);
  }
  if (options.granularity == formats::Granularity::kProgressive) {
    for (int8_t& code : weight.codes) code = static_cast<int8_t>(code + 8);
    weight.group_multiplier.assign(groups * rows, 8);
    weight.group_offset.assign(groups * rows, -60);
  }
  return weight;
}

formats::ManifestParts manifest_parts(const SyntheticOptions& options) {
  formats::ManifestParts parts;
  parts.granularity = options.granularity;
  parts.act_scale = options.act_scale;
  parts.int8_lm_head = options.int8_lm_head;
  parts.kv_cache = {{"format", options.kv}, {"rotate", false}, {"window", {0, 0}}};
  return parts;
}

Status put_packed_linear(const formats::WeightFormat& format,
                         const formats::QuantizedWeight& weight, formats::ManifestParts& parts,
                         MemorySource& source) {
  auto packed = format.pack(weight);
  if (!packed) return packed.error();
  for (auto& [name, tensor] : packed->tensors) source.put(name, tensor);
  parts.sites.push_back(packed->site);
  parts.linears.push_back(packed->linear);
  return {};
}

void put_dense_linear(Context& ctx, const formats::LinearSpec& spec, uint64_t seed,
                      uint64_t& stream, MemorySource& source) {
  for (size_t part = 0; part < spec.parts.size(); ++part) {
    const std::string name = spec.prefix + spec.parts[part];
    const int64_t rows = spec.part_rows[part];
    source.put(name + ".weight", gaussian_bf16(ctx, {rows, spec.k}, 0.02F, seed, ++stream));
    if (!spec.has_bias) continue;
    source.put(name + ".bias", gaussian_bf16(ctx, {rows}, 0.02F, seed, ++stream));
  }
}

void put_int8_lm_head(Context& ctx, const io::ModelConfig& config, const SyntheticOptions& options,
                      MemorySource& source) {
  const Shape shape{config.vocab_size, config.hidden_size};
  Tensor codes(std::make_shared<Storage>(host_allocator(), shape.num_elements()), 0, DType::kI8,
               shape);
  const Rng rng(options.seed, 3);
  ctx.pool.parallel_for(config.vocab_size, [&](int64_t row, int) {
    int8_t* out = codes.data<int8_t>() + row * config.hidden_size;
    for (int64_t i = 0; i < config.hidden_size; ++i) {
      out[i] = static_cast<int8_t>(rng.bits(row * config.hidden_size + i) % 255 - 127);
    }
  });
  Tensor scales(std::make_shared<Storage>(host_allocator(), config.vocab_size * 4), 0, DType::kF32,
                {config.vocab_size});
  std::fill_n(scales.data<float>(), config.vocab_size, 0.02F / 73.0F);
  source.put("lm_head.weight", codes);
  source.put("lm_head.weight_scale", scales);
}

void put_norm(const std::string& name, int64_t size, MemorySource& source) {
  Tensor ones(std::make_shared<Storage>(host_allocator(), size * 4), 0, DType::kF32, {size});
  std::fill_n(ones.data<float>(), size, 1.0F);
  source.put(name, ones);
}

}  // namespace

std::string synthetic_names() {
  std::string names;
  for (const Row& row : kRows) names += (names.empty() ? "" : ", ") + std::string(row.name);
  return names;
}

Result<io::ModelConfig> synthetic_config(std::string_view name) {
  const auto* const row =
      std::find_if(kRows.begin(), kRows.end(), [&](const Row& r) { return r.name == name; });
  if (row == kRows.end()) {
    return make_error(ErrorCode::kInvalidArgument, "--synthetic '{}': expected one of {}", name,
                      synthetic_names());
  }
  io::ModelConfig config;
  config.architecture = row->architecture;
  config.qkv_bias = row->architecture == "Qwen2ForCausalLM";
  config.qk_norm = row->architecture == "Qwen3ForCausalLM";
  config.vocab_size = row->vocab;
  config.hidden_size = row->hidden;
  config.intermediate_size = row->ffn;
  config.num_layers = row->layers;
  config.num_heads = row->heads;
  config.num_kv_heads = row->kv_heads;
  config.head_dim = row->head_dim;
  config.max_position_embeddings = row->context;
  config.rms_norm_eps = 1e-5;
  config.rope_theta = row->rope_theta;
  config.tie_word_embeddings = row->tied;
  return config;
}

Result<std::unique_ptr<LlamaModel>> make_synthetic_model(Context& ctx, std::string_view name,
                                                         const SyntheticOptions& wanted) {
  auto config = synthetic_config(name);
  if (!config) return config.error();
  const auto weights = formats::find_weight_format(wanted.format);
  if (!weights) return weights.error();
  const bool dense = (*weights)->pack == nullptr;
  SyntheticOptions options = wanted;
  if (options.format == "w4a16") {
    options.granularity = formats::Granularity::kGroup;
    options.act_scale = formats::ActScale::kA16;
    options.int8_share = 0.0;
  }
  MemorySource source;
  formats::ManifestParts parts = manifest_parts(options);
  uint64_t stream = 100;
  source.put("model.embed_tokens.weight",
             gaussian_bf16(ctx, {config->vocab_size, config->hidden_size}, 0.02F, options.seed, 2));
  put_norm("model.norm.weight", config->hidden_size, source);
  for (int64_t i = 0; i < config->num_layers; ++i) {
    for (const NormSpec& norm : llama_norm_specs(*config, i)) {
      put_norm(norm.name, norm.size, source);
    }
    for (const formats::LinearSpec& spec : llama_linear_specs(*config, i)) {
      if (dense) {
        put_dense_linear(ctx, spec, options.seed, stream, source);
        continue;
      }
      const auto random = is_w8a8(options.format) ? random_w8a8 : random_weight;
      const Status put =
          put_packed_linear(**weights, random(ctx, spec, options, ++stream), parts, source);
      if (!put) return put.error();
    }
  }
  if (options.int8_lm_head) {
    put_int8_lm_head(ctx, *config, options, source);
  } else if (!config->tie_word_embeddings) {
    source.put("lm_head.weight", gaussian_bf16(ctx, {config->vocab_size, config->hidden_size},
                                               0.02F, options.seed, 4));
  }
  // Comet's own format keeps the cache in its manifest, the others beside it.
  Json manifest = dense ? Json() : (*weights)->manifest(parts);
  if (!manifest.contains("kv_cache")) {
    config->comet_kv_cache = std::make_shared<const Json>(parts.kv_cache);
  }
  if (!dense) config->quantization_config = std::make_shared<const Json>(std::move(manifest));
  auto format = parse_model_format(*config, fmt::format("synthetic {}", name));
  if (!format) return format.error();
  if (options.int8_lm_head) format->lm_head = *formats::find_weight_format("w8a8-int");
  auto model = LlamaModel::load(*config, *format, source, ctx.caps);
  if (!model) return model.error();
  if (const Status moved = model->move_to_device(ctx); !moved) return moved.error();
  return std::make_unique<LlamaModel>(*std::move(model));
}

}  // namespace comet::models
