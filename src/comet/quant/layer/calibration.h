// Calibration: token sequences, and running one layer over all of them. The activations between
// layers are kept; a layer's own intermediate values are not. Callers: layer_quantizer,
// quantize_model.
#pragma once

#include <cstdint>
#include <vector>

#include "comet/base/result.h"
#include "comet/kv/kv_cache.h"
#include "comet/models/llama.h"
#include "comet/quant/backend/backend.h"
#include "comet/quant/matrix.h"

namespace comet::quant {

struct CalibrationSet {
  std::vector<std::vector<int32_t>> samples;

  [[nodiscard]] int64_t num_tokens() const;
};

using Documents = std::vector<std::vector<int32_t>>;

/// What calibration may use of a text, and what the quality gate measures on: the last tenth of the
/// documents or, of fewer than ten, the last tenth of their tokens.
struct HeldBackSplit {
  Documents calibration;
  Documents gate;
};
HeldBackSplit hold_back_for_gate(const Documents& documents);

/// Windows of `length` tokens, evenly spaced over the documents' tokens laid end to end, without
/// what is held back for the gate. Fewer than `num_samples` when the text is short, so that no
/// token is used twice; an error when it is shorter than one.
Result<CalibrationSet> cut_calibration_windows(const Documents& documents, int64_t num_samples,
                                               int64_t length);

/// Not empty, no empty or overlong sample, ids within the vocabulary.
Status check_calibration(const CalibrationSet& set, const io::ModelConfig& config);

/// Embeddings of all samples one after another, [num_tokens, hidden]; NaN or Inf is an error.
/// `ctx` is a CPU's.
Result<Matrix> embed_samples(Context& ctx, const formats::TensorSource& tensors,
                             const io::ModelConfig& config, const CalibrationSet& set);

struct LayerRun {
  const io::ModelConfig& config;
  const CalibrationSet& set;
  const kv::KvFormat& kv_format;
  kv::KvOptions kv_options = {};
};

/// Runs the layer, which lies on the backend's device, on every sample, each with an empty cache of
/// one layer; `hidden` [num_tokens, hidden] is the input, and becomes the output when `update`.
Status run_layer(Backend& backend, const models::LlamaLayer& layer, const LayerRun& run,
                 Matrix& hidden, bool update);

}  // namespace comet::quant
