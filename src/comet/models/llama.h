// LLaMA (Touvron et al. 2023; LLaMA-3: Grattafiori et al. 2024) and the families that share its
// decoder (io/architecture.h: Mistral, Qwen2, Qwen3): the decoder, its layers and how it is loaded.
// Callers: engine (forward), quant (layer by layer), study.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "comet/io/model_config.h"
#include "comet/kv/kv_cache.h"
#include "comet/nn/linear.h"
#include "comet/nn/rms_norm.h"

namespace comet::models {

/// What a loader needs beside the tensors: format and its manifest, as config.json names them.
struct ModelFormat {
  const formats::WeightFormat* weights = nullptr;  // of the layers' linears
  std::shared_ptr<const formats::FormatConfig> config;
  const formats::WeightFormat* lm_head = nullptr;
  std::shared_ptr<const formats::FormatConfig> lm_head_config;  // nullptr: Comet's own or dense
  const kv::KvFormat* kv = nullptr;
  kv::KvOptions kv_options;
  bool has_kv_scales = false;  // the checkpoint has k_scale and v_scale for every layer
};

/// Reads quantization_config and comet_kv_cache; dense with kv16 when both are absent.
Result<ModelFormat> parse_model_format(const io::ModelConfig& config, const std::string& source);

/// The residual stream [tokens, hidden]: x, and what the last block has still to add to it. The
/// norm behind it adds it in passing.
struct Residual {
  View<float, 2> x;
  Rows delta;
  bool pending = false;

  /// In ctx.arena.
  static Residual allocate(Context& ctx, int64_t num_tokens, int64_t hidden_size);
  /// What a norm takes: x and the pending sum, which is then no longer pending.
  [[nodiscard]] formats::NormInput normed_by(const nn::RmsNorm& norm);
  /// x has everything.
  void settle(Context& ctx);
};

struct LlamaLayer {
  nn::RmsNorm attn_norm;
  nn::Linear qkv;
  nn::RmsNorm q_norm;  // [head_dim], on every head; empty but for models with qk_norm
  nn::RmsNorm k_norm;
  nn::Linear out_proj;
  nn::RmsNorm mlp_norm;
  nn::Linear gate_up;
  nn::Linear down_proj;

  static Result<LlamaLayer> load(const io::ModelConfig& config, int64_t layer_idx,
                                 const ModelFormat& format, const formats::TensorSource& tensors,
                                 const Caps& caps);

  Status move_to_device(Context& ctx);

  /// q, k and v of the stream in ctx.arena, before their norms and RoPE.
  kv::HeadsInput project(Context& ctx, Residual& stream, std::span<const float> inv_freq) const;

  /// stream += attention(stream), then += mlp(stream). `batch` is staged.
  void forward(Context& ctx, const Batch& batch, kv::KvCache& cache, int64_t layer_idx,
               std::span<const float> inv_freq, Residual& stream) const;
};

/// The linears of layer `layer_idx`: qkv_proj, o_proj, gate_up_proj, down_proj.
std::vector<formats::LinearSpec> llama_linear_specs(const io::ModelConfig& config,
                                                    int64_t layer_idx);

/// The norms of layer `layer_idx`: tensor, size, and where it stands in the layer.
struct NormSpec {
  std::string name;
  int64_t size;
  nn::RmsNorm LlamaLayer::* norm;
};
std::vector<NormSpec> llama_norm_specs(const io::ModelConfig& config, int64_t layer_idx);

class LlamaModel {
 public:
  static Result<LlamaModel> load(const io::ModelConfig& config, const ModelFormat& format,
                                 const formats::TensorSource& tensors, const Caps& caps);

  /// Moves all that kernels read to the device of ctx; nothing on a CPU.
  Status move_to_device(Context& ctx);

  /// A cache in the model's KV format and options: pages for all layers, and where the options name
  /// a window, room for that of num_slots sequences (Batch::seq_slots).
  [[nodiscard]] Result<kv::KvCache> make_cache(Context& ctx, int64_t num_pages,
                                               int64_t num_slots) const;
  /// Bytes that each slot of such a cache takes; 0 without a window.
  [[nodiscard]] int64_t window_bytes_per_slot() const;

  /// Logits [sample_rows, vocab] in ctx.arena. Appends the batch to the cache.
  Tensor forward(Context& ctx, const Batch& batch, kv::KvCache& cache) const;
  /// The same of a staged batch (kv::stage_batch): on a GPU launches alone, which depend on nothing
  /// but what `batch.device` says and the arena's state.
  Tensor forward_staged(Context& ctx, const Batch& batch, kv::KvCache& cache) const;

  // The three parts of forward(), for those who walk layer by layer.
  void embed(Context& ctx, View<float, 2> x, std::span<const int32_t> tokens) const;
  /// Logits (FP32) of all rows of x [rows, hidden].
  [[nodiscard]] Tensor logits(Context& ctx, View<const float, 2> x) const;

  [[nodiscard]] const io::ModelConfig& config() const { return config_; }
  [[nodiscard]] const ModelFormat& format() const { return format_; }
  [[nodiscard]] const std::vector<LlamaLayer>& layers() const { return layers_; }
  [[nodiscard]] const nn::Linear& lm_head() const { return lm_head_; }
  [[nodiscard]] const std::vector<float>& inv_freq() const { return inv_freq_; }
  [[nodiscard]] kv::KvShape kv_shape() const { return {config_.num_kv_heads, config_.head_dim}; }
  /// Bytes of weights that one decode step reads: every linear, lm_head, no embedding table.
  [[nodiscard]] int64_t bytes_read_per_step() const;
  [[nodiscard]] int64_t embedding_bytes() const { return embedding_.num_bytes(); }

 private:
  io::ModelConfig config_;
  ModelFormat format_;
  Tensor embedding_;  // [vocab, hidden]
  std::vector<LlamaLayer> layers_;
  nn::RmsNorm final_norm_;
  nn::Linear lm_head_;
  std::vector<float> inv_freq_;
  Tensor inv_freq_on_device_;            // a copy; undefined on a CPU
  std::vector<kv::KvScales> kv_scales_;  // [layers], or empty
};

}  // namespace comet::models
