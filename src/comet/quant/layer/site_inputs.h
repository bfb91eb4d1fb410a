// SiteInputs: a layer's four inputs over all calibration tokens, kept from the pass that measures
// them so that the Hessians need no second one. Foldings between the two (powers of two, a
// permutation) are exact, so a kept row is what a second pass would give; behind SmoothQuant's
// factors it is that but for FP32 rounding. Callers: layer_stage, site_smoothing, layer_quantizer.
// Whether they are kept depends on the model and the text only, never on the machine.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>

#include "comet/io/model_config.h"
#include "comet/quant/backend/backend.h"
#include "comet/quant/layer/layer_weights.h"

namespace comet::quant {

class SiteInputs {
 public:
  static constexpr int64_t kMaxBytes = int64_t{2} << 30;

  /// Bytes that keeping takes: 0 where it would be more than kMaxBytes, and is not done.
  static int64_t bytes(const io::ModelConfig& config, int64_t num_tokens);
  static bool fit(const io::ModelConfig& config, int64_t num_tokens) {
    return bytes(config, num_tokens) > 0;
  }

  /// Room for `num_tokens` rows of every site on the backend's device; forgets what was there.
  void reset(Backend& backend, const LayerWeights& layer, int64_t num_tokens);
  void append(size_t site_idx, ConstRows rows);
  // Foldings, of nothing where no rows are kept: every channel divided by its scale; channel
  // order[i] becomes channel i.
  void scale(size_t site_idx, std::span<const float> scales);
  void permute(size_t site_idx, std::span<const int32_t> order);

  /// On the device; empty where none are kept.
  [[nodiscard]] ConstRows rows(size_t site_idx) const;
  void drop(size_t site_idx) { rows_[site_idx].reset(); }

 private:
  std::array<std::unique_ptr<KeptRows>, kNumSites> rows_;
};

}  // namespace comet::quant
