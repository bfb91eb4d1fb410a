// The quality gate (docs/formats.md §2.7): text that was never calibrated on goes through the
// original and the quantized model beside each other, layer by layer as quantization walks, so no
// second model is held; at the end both score it. Callers: quantize_model; apps cut the windows.
#pragma once

#include <optional>
#include <vector>

#include "comet/io/checkpoint.h"
#include "comet/quant/layer/calibration.h"

namespace comet::quant {

/// Windows of text, and for each of their tokens the one behind it, which is to be predicted.
struct GateSet {
  CalibrationSet inputs;
  std::vector<std::vector<int32_t>> targets;  // as long as the inputs
};

constexpr int64_t kMaxGateTokens = 16384;

/// Windows of at most `length` tokens of the held-back end of `documents` (see
/// cut_calibration_windows), in order, until `max_tokens` are predicted. Empty when nothing was
/// held back.
GateSet cut_gate_windows(const std::vector<std::vector<int32_t>>& documents, int64_t length,
                         int64_t max_tokens);

struct GateResult {
  int64_t num_tokens = 0;
  double perplexity_before = 0.0;  // of the original, with a BF16 cache
  double perplexity_after = 0.0;
  double kl_mean = 0.0;  // KL(original‖quantized), nats a token
};

class QualityGate {
 public:
  /// `set` and `checkpoint` (the original) must live as long; ids and lengths are checked. `ctx`,
  /// here and in score(), is a CPU's.
  static Result<QualityGate> create(Context& ctx, const io::Checkpoint& checkpoint,
                                    const io::ModelConfig& config, const GateSet& set);

  /// Both models' activations behind layer `layer_idx`. `quantized` is that layer as loaded from
  /// what was written, on the backend's device, run with the cache of `quantized_run`.
  Status advance(Backend& backend, int64_t layer_idx, const models::LlamaLayer& quantized,
                 const kv::KvFormat& kv_format, const kv::KvOptions& kv_options);
  /// After the last layer: the scores, by the finished model's own norm and head.
  Result<GateResult> score(Context& ctx, const io::Checkpoint& quantized) const;

  /// [num_tokens, hidden], to be saved and restored with an interrupted run.
  Matrix original_hidden;
  Matrix quantized_hidden;

 private:
  QualityGate(const io::Checkpoint& checkpoint, io::ModelConfig config, const GateSet& set)
      : checkpoint_(&checkpoint), config_(std::move(config)), set_(&set) {}

  const io::Checkpoint* checkpoint_;
  io::ModelConfig config_;
  const GateSet* set_;
};

}  // namespace comet::quant
