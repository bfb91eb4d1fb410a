#include "comet/models/llama.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "comet/base/json.h"
#include "comet/ops/add/add.h"
#include "comet/ops/embedding/embedding.h"
#include "comet/ops/rms_norm/rms_norm.h"
#include "comet/ops/rope/rope.h"

namespace comet::models {
namespace {

constexpr std::array kFloatDtypes{DType::kBF16, DType::kF16, DType::kF32};

/// [tokens, heads · head_dim] seen as [tokens, heads, head_dim]; rows may be strided.
View<float, 3> as_heads(const Tensor& x, int64_t head_dim) {
  const View<float, 2> v = x.view<float, 2>();
  return {v.data, {v.size(0), v.size(1) / head_dim, head_dim}, {v.strides[0], head_dim, 1}};
}

}  // namespace

std::vector<formats::LinearSpec> llama_linear_specs(const io::ModelConfig& config,
                                                    int64_t layer_idx) {
  const std::string layer = fmt::format("model.layers.{}.", layer_idx);
  const std::string attn = layer + "self_attn.";
  const std::string mlp = layer + "mlp.";
  const int64_t q_rows = config.num_heads * config.head_dim;
  const int64_t kv_rows = config.num_kv_heads * config.head_dim;
  const int64_t ffn = config.intermediate_size;
  return {
      {attn + "qkv_proj",
       attn,
       {"q_proj", "k_proj", "v_proj"},
       {q_rows, kv_rows, kv_rows},
       config.hidden_size,
       config.qkv_bias},
      {attn + "o_proj", attn, {"o_proj"}, {config.hidden_size}, q_rows, config.o_bias},
      {mlp + "gate_up_proj",
       mlp,
       {"gate_proj", "up_proj"},
       {ffn, ffn},
       config.hidden_size,
       config.mlp_bias},
      {mlp + "down_proj", mlp, {"down_proj"}, {config.hidden_size}, ffn, config.mlp_bias},
  };
}

std::vector<NormSpec> llama_norm_specs(const io::ModelConfig& config, int64_t layer_idx) {
  const std::string layer = fmt::format("model.layers.{}.", layer_idx);
  std::vector<NormSpec> specs{
      {layer + "input_layernorm.weight", config.hidden_size, &LlamaLayer::attn_norm},
      {layer + "post_attention_layernorm.weight", config.hidden_size, &LlamaLayer::mlp_norm}};
  if (config.qk_norm) {
    specs.push_back({layer + "self_attn.q_norm.weight", config.head_dim, &LlamaLayer::q_norm});
    specs.push_back({layer + "self_attn.k_norm.weight", config.head_dim, &LlamaLayer::k_norm});
  }
  return specs;
}

namespace {

/// `name` as [1] or [], or under the name of older files.
Result<float> load_kv_scale(const std::string& name, const std::string& old_name,
                            const formats::TensorSource& tensors) {
  const std::string& found =
      tensors.contains(name) || !tensors.contains(old_name) ? name : old_name;
  auto scale = tensors.get(found, kFloatDtypes, Shape{1});
  if (!scale) {
    auto without_dimensions = tensors.get(found, kFloatDtypes, Shape());
    if (!without_dimensions) return scale.error();
    scale = std::move(without_dimensions);
  }
  const float value = nn::to_float_vector(*scale)[0];
  if (std::isfinite(value) && value > 0) return value;
  return make_error(ErrorCode::kCorrupt, "tensor '{}' is {}; expected a scale above 0", found,
                    value);
}

Result<kv::KvScales> load_kv_scales(int64_t layer_idx, const formats::TensorSource& tensors) {
  const std::string attn = fmt::format("model.layers.{}.self_attn.", layer_idx);
  const auto key = load_kv_scale(attn + "k_scale", attn + "k_proj.k_scale", tensors);
  if (!key) return key.error();
  const auto value = load_kv_scale(attn + "v_scale", attn + "v_proj.v_scale", tensors);
  if (!value) return value.error();
  return kv::KvScales{*key, *value};
}

}  // namespace

Result<LlamaLayer> LlamaLayer::load(const io::ModelConfig& config, int64_t layer_idx,
                                    const ModelFormat& format, const formats::TensorSource& tensors,
                                    const Caps& caps) {
  const auto eps = static_cast<float>(config.rms_norm_eps);
  LlamaLayer layer;
  for (const NormSpec& spec : llama_norm_specs(config, layer_idx)) {
    auto loaded = nn::RmsNorm::load(spec.name, spec.size, eps, tensors);
    if (!loaded) return loaded.error();
    layer.*spec.norm = *std::move(loaded);
  }
  const std::vector<formats::LinearSpec> specs = llama_linear_specs(config, layer_idx);
  const std::array linears{&layer.qkv, &layer.out_proj, &layer.gate_up, &layer.down_proj};
  for (size_t i = 0; i < linears.size(); ++i) {
    auto loaded = nn::Linear::load(specs[i], *format.weights, format.config.get(), tensors, caps);
    if (!loaded) return loaded.error();
    *linears[i] = *std::move(loaded);
  }
  return layer;
}

LlamaLayer::Heads LlamaLayer::project(Context& ctx, View<const float, 2> x, int64_t head_dim,
                                      std::span<const int32_t> positions,
                                      std::span<const float> inv_freq) const {
  const auto [q, k, v] = nn::split_parts<3>(qkv, qkv(ctx, attn_norm(x)));
  const Heads heads{as_heads(q, head_dim), as_heads(k, head_dim), as_heads(v, head_dim)};
  if (!q_norm.weight().empty()) rms_norm(ctx, heads.q, q_norm.view(), q_norm.eps());
  if (!k_norm.weight().empty()) rms_norm(ctx, heads.k, k_norm.view(), k_norm.eps());
  rope(ctx, heads.q, positions, inv_freq);
  rope(ctx, heads.k, positions, inv_freq);
  return heads;
}

void LlamaLayer::forward(Context& ctx, const Batch& batch, kv::KvCache& cache, int64_t layer_idx,
                         std::span<const float> inv_freq, View<float, 2> x) const {
  const ArenaScope scope(ctx.arena);
  const auto [q, k, v] = project(ctx, x, cache.shape().head_dim, batch.positions, inv_freq);
  const Tensor attended = cache.attend(ctx, layer_idx, q, k, v, batch);
  add(ctx, x, out_proj(ctx, attended.view<const float, 2>()).view<const float, 2>());
  const auto [gate, up] = nn::split_parts<2>(gate_up, gate_up(ctx, mlp_norm(x)));
  const formats::SiluMulInput hidden{gate.view<const float, 2>(), up.view<const float, 2>()};
  add(ctx, x, down_proj(ctx, hidden).view<const float, 2>());
}

Result<LlamaModel> LlamaModel::load(const io::ModelConfig& config, const ModelFormat& format,
                                    const formats::TensorSource& tensors, const Caps& caps) {
  LlamaModel model;
  model.config_ = config;
  model.format_ = format;
  model.inv_freq_ = io::rope_inverse_frequencies(config);
  for (int64_t i = 0; format.has_kv_scales && i < config.num_layers; ++i) {
    const auto scales = load_kv_scales(i, tensors);
    if (!scales) return scales.error();
    model.kv_scales_.push_back(*scales);
  }
  auto embedding = tensors.get("model.embed_tokens.weight", kFloatDtypes,
                               {config.vocab_size, config.hidden_size});
  if (!embedding) return embedding.error();
  model.embedding_ = *embedding;
  for (int64_t i = 0; i < config.num_layers; ++i) {
    auto layer = LlamaLayer::load(config, i, format, tensors, caps);
    if (!layer) return layer.error();
    model.layers_.push_back(*std::move(layer));
  }
  auto norm = nn::RmsNorm::load("model.norm.weight", config.hidden_size,
                                static_cast<float>(config.rms_norm_eps), tensors);
  if (!norm) return norm.error();
  model.final_norm_ = *std::move(norm);
  // A tied lm_head is the embedding table itself, unless it was stored apart (--lm-head int8).
  const bool tied = config.tie_word_embeddings && !tensors.contains("lm_head.weight");
  const formats::LinearSpec head{
      "lm_head",          "",   {tied ? "model.embed_tokens" : "lm_head"}, {config.vocab_size},
      config.hidden_size, false};
  auto lm_head =
      nn::Linear::load(head, *format.lm_head, format.lm_head_config.get(), tensors, caps);
  if (!lm_head) return lm_head.error();
  model.lm_head_ = *std::move(lm_head);
  return model;
}

void LlamaModel::embed(Context& ctx, View<float, 2> x, std::span<const int32_t> tokens) const {
  embedding(ctx, x, embedding_, tokens);
}

Tensor LlamaModel::logits(Context& ctx, View<const float, 2> x) const {
  return lm_head_(ctx, final_norm_(x));
}

Tensor LlamaModel::forward(Context& ctx, const Batch& batch, kv::KvCache& cache) const {
  const Tensor hidden = ctx.arena.alloc(DType::kF32, {batch.num_tokens(), config_.hidden_size});
  const View<float, 2> x = hidden.view<float, 2>();
  embed(ctx, x, batch.tokens);
  for (size_t i = 0; i < layers_.size(); ++i) {
    layers_[i].forward(ctx, batch, cache, static_cast<int64_t>(i), inv_freq_, x);
  }
  const auto num_rows = static_cast<int64_t>(batch.sample_rows.size());
  const Tensor sampled = ctx.arena.alloc(DType::kF32, {num_rows, config_.hidden_size});
  for (int64_t i = 0; i < num_rows; ++i) {
    std::copy_n(x.row(batch.sample_rows[i]), config_.hidden_size, sampled.view<float, 2>().row(i));
  }
  return logits(ctx, sampled.view<const float, 2>());
}

Result<kv::KvCache> LlamaModel::make_cache(int64_t num_pages, int64_t num_slots) const {
  auto cache = kv::KvCache::create(*format_.kv, kv_shape(), config_.num_layers, num_pages,
                                   format_.kv_options, num_slots);
  if (cache && !kv_scales_.empty()) cache->set_scales(kv_scales_);
  return cache;
}

int64_t LlamaModel::window_bytes_per_slot() const {
  return config_.num_layers * kv::window_bytes(*format_.kv, kv_shape(), format_.kv_options);
}

int64_t LlamaModel::bytes_read_per_step() const {
  int64_t total = lm_head_.weight().bytes();
  for (const LlamaLayer& layer : layers_) {
    for (const nn::Linear* linear :
         {&layer.qkv, &layer.out_proj, &layer.gate_up, &layer.down_proj}) {
      total += linear->weight().bytes();
    }
  }
  return total;
}

}  // namespace comet::models
