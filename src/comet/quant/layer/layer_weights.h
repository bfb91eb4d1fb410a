// One decoder layer as FP32 matrices, its four sites, and the exact foldings that move a change of
// a site's channels into what produces them. Callers: layer_quantizer. Whatever is folded, the
// layer computes the same function in real arithmetic (a test runs it before and after).
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "comet/io/model_config.h"
#include "comet/models/llama.h"
#include "comet/models/load.h"
#include "comet/quant/matrix.h"

namespace comet::quant {

/// The inputs that are quantized; each feeds one (fused) linear.
enum class Site { kQkvIn, kOIn, kGateUpIn, kDownIn };
constexpr std::array kSites{Site::kQkvIn, Site::kOIn, Site::kGateUpIn, Site::kDownIn};
constexpr size_t kNumSites = kSites.size();

struct LayerWeights {
  int64_t layer_idx = 0;
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
  /// In the order of models::llama_norm_specs: before attention, before the MLP and, for models
  /// that have them, of the heads of q and k.
  std::vector<std::vector<float>> norms;
  std::vector<DType> norm_dtypes;  // as the checkpoint stores them
  std::array<formats::LinearSpec, kNumSites> specs;
  std::array<Matrix, kNumSites> weights;             // fused, [n, k]
  std::array<std::vector<float>, kNumSites> biases;  // [n] or empty

  [[nodiscard]] bool has_qk_norm() const { return norms.size() > 2; }
  Matrix& weight(Site site) { return weights[static_cast<size_t>(site)]; }
  [[nodiscard]] const Matrix& weight(Site site) const { return weights[static_cast<size_t>(site)]; }
  std::vector<float>& bias(Site site) { return biases[static_cast<size_t>(site)]; }
  [[nodiscard]] const formats::LinearSpec& spec(Site site) const {
    return specs[static_cast<size_t>(site)];
  }
  /// "model.layers.0.self_attn.qkv_in"
  [[nodiscard]] std::string site_name(Site site) const;
  /// First row of part `part_idx` of the site's fused linear.
  [[nodiscard]] int64_t part_begin(Site site, size_t part_idx) const;
};

/// Loads and checks layer `layer_idx`; NaN or Inf is an error that names the tensor.
Result<LayerWeights> load_layer_weights(const formats::TensorSource& tensors,
                                        const io::ModelConfig& config, int64_t layer_idx);

/// The layer's tensors under their checkpoint names, FP32, borrowing the memory of `layer`.
models::MemorySource borrow_tensors(const LayerWeights& layer, const io::ModelConfig& config);

/// The dense layer over these weights, planned, where the device of ctx runs it; borrows `layer`.
Result<models::LlamaLayer> bind_float_layer(const LayerWeights& layer,
                                            const io::ModelConfig& config, Context& ctx);

/// The linears of a layer in the order of kSites.
std::array<nn::Linear*, kNumSites> linears_of(models::LlamaLayer& layer);

/// The site's input divided by `scales`, its columns multiplied; exact for powers of two. o_in:
/// scales must be equal over the query heads of a KV head.
void fold_scales(LayerWeights& layer, Site site, std::span<const float> scales);

/// The channel of V that channel c of o_in comes from.
int64_t value_channel(const LayerWeights& layer, int64_t c);

/// The FFN's channels reordered: channel i becomes the old channel order[i]; gate and up rows only
/// (down's columns follow by its site's layout).
void permute_ffn_rows(LayerWeights& layer, std::span<const int32_t> order);

/// v rotated by the Hadamard matrix of head_dim points in every head (a power of two), o's columns
/// likewise.
void fold_value_rotation(LayerWeights& layer);

/// k divided and q multiplied by lambda[kv_head · head_dim/2 + pair], both channels of the pair.
/// Folded into the norms of q and k where there are any: lambda is then the same for all heads.
void fold_key_scales(LayerWeights& layer, std::span<const float> lambda);

}  // namespace comet::quant
