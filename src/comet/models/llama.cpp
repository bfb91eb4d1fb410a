#include "comet/models/llama.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "comet/base/json.h"
#include "comet/kv/stage_batch.h"
#include "comet/ops/add/add.h"
#include "comet/ops/embedding/embedding.h"
#include "comet/ops/gather_rows/gather_rows.h"
#include "comet/ops/op_table.h"

namespace comet::models {
namespace {

constexpr std::array kFloatDtypes{DType::kBF16, DType::kF16, DType::kF32};

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

Residual Residual::allocate(Context& ctx, int64_t num_tokens, int64_t hidden_size) {
  const Shape shape{num_tokens, hidden_size};
  return {ctx.arena.alloc(DType::kF32, shape).view<float, 2>(),
          ctx.arena.alloc(ctx.ops.product_dtype, shape)};
}

formats::NormInput Residual::normed_by(const nn::RmsNorm& norm) {
  const bool adds = std::exchange(pending, false);
  return norm(x, adds ? ConstRows(delta) : ConstRows());
}

void Residual::settle(Context& ctx) {
  if (std::exchange(pending, false)) add(ctx, x, delta);
}

Status LlamaLayer::move_to_device(Context& ctx) {
  for (nn::RmsNorm* norm : {&attn_norm, &q_norm, &k_norm, &mlp_norm}) {
    if (!norm->weight().empty()) norm->move_to_device(ctx);
  }
  for (nn::Linear* linear : {&qkv, &out_proj, &gate_up, &down_proj}) {
    if (Status moved = linear->move_to_device(ctx); !moved) return moved;
  }
  return {};
}

kv::HeadsInput LlamaLayer::project(Context& ctx, Residual& stream,
                                   std::span<const float> inv_freq) const {
  const auto [q, k, v] = nn::split_parts<3>(qkv, qkv(ctx, stream.normed_by(attn_norm)));
  return {q, k, v, q_norm.view(), k_norm.view(), attn_norm.eps(), inv_freq};
}

void LlamaLayer::forward(Context& ctx, const Batch& batch, kv::KvCache& cache, int64_t layer_idx,
                         std::span<const float> inv_freq, Residual& stream) const {
  const ArenaScope scope(ctx.arena);
  const Tensor attended = cache.attend(ctx, layer_idx, project(ctx, stream, inv_freq), batch);
  out_proj(ctx, attended, stream.delta);
  stream.pending = true;
  const auto [gate, up] = nn::split_parts<2>(gate_up, gate_up(ctx, stream.normed_by(mlp_norm)));
  down_proj(ctx, formats::SiluMulInput{gate, up}, stream.delta);
  stream.pending = true;
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
  return lm_head_(ctx, final_norm_(x), DType::kF32);
}

Tensor LlamaModel::forward(Context& ctx, const Batch& batch, kv::KvCache& cache) const {
  return forward_staged(ctx, kv::stage_batch(ctx, batch), cache);
}

Tensor LlamaModel::forward_staged(Context& ctx, const Batch& batch, kv::KvCache& cache) const {
  const DeviceBatch& device = batch.device;
  Residual stream = Residual::allocate(ctx, batch.num_tokens(), config_.hidden_size);
  embed(ctx, stream.x, {device.tokens, static_cast<size_t>(device.num_tokens)});
  const std::span inv_freq(
      inv_freq_on_device_.defined() ? inv_freq_on_device_.data<float>() : inv_freq_.data(),
      inv_freq_.size());
  for (size_t i = 0; i < layers_.size(); ++i) {
    layers_[i].forward(ctx, batch, cache, static_cast<int64_t>(i), inv_freq, stream);
  }
  const Tensor sampled =
      ctx.arena.alloc(DType::kF32, {device.num_sample_rows, config_.hidden_size});
  gather_rows(ctx, sampled.view<float, 2>(), stream.x,
              stream.pending ? ConstRows(stream.delta) : ConstRows(),
              {device.sample_rows, static_cast<size_t>(device.num_sample_rows)});
  return logits(ctx, sampled.view<float, 2>());
}

Status LlamaModel::move_to_device(Context& ctx) {
  if (ctx.cuda == nullptr) return {};
  embedding_ = copy_to_device(ctx, embedding_);
  inv_freq_on_device_ = copy_to_device(ctx, inv_freq_, {static_cast<int64_t>(inv_freq_.size())});
  for (LlamaLayer& layer : layers_) {
    if (Status moved = layer.move_to_device(ctx); !moved) return moved;
  }
  final_norm_.move_to_device(ctx);
  return lm_head_.move_to_device(ctx);
}

Result<kv::KvCache> LlamaModel::make_cache(Context& ctx, int64_t num_pages,
                                           int64_t num_slots) const {
  auto cache = kv::KvCache::create(*format_.kv, kv_shape(), config_.num_layers, num_pages,
                                   format_.kv_options, num_slots, &ctx);
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
