// Key smoothing for 4-bit caches (docs/formats.md §3): λ = √(absmax k / absmax q) per KV head and
// RoPE pair, over calibration tokens, after RoPE. k/λ and q·λ give the same attention; folded into
// Wq and Wk, or into the norms of q and k, by layer_weights. Callers: layer_quantizer.
#pragma once

#include <vector>

#include "comet/models/llama.h"
#include "comet/quant/layer/calibration.h"

namespace comet::quant {

/// λ [num_kv_heads · head_dim/2] ([head_dim/2] for all heads of a model with qk_norm), each within
/// 2^±10; 1 where q or k is always zero.
std::vector<float> key_scales(Backend& backend, const models::LlamaLayer& layer,
                              const io::ModelConfig& config, const CalibrationSet& set,
                              const Matrix& hidden);

}  // namespace comet::quant
