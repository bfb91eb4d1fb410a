// SiteInputs: a layer's four inputs over all calibration tokens, kept from the pass that measures
// them so that the Hessians need no second one. Foldings between the two (powers of two, a
// permutation) are exact, so a kept row is what a second pass would give; behind SmoothQuant's
// factors it is that but for FP32 rounding. Callers: layer_stage, site_smoothing, layer_quantizer.
// Whether they are kept depends on the model and the text only, never on the machine.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "comet/device/thread_pool.h"
#include "comet/io/model_config.h"
#include "comet/quant/layer/layer_weights.h"
#include "comet/quant/matrix.h"

namespace comet::quant {

class SiteInputs {
 public:
  static constexpr int64_t kMaxBytes = int64_t{2} << 30;

  /// Bytes that keeping takes: 0 where it would be more than kMaxBytes, and is not done.
  static int64_t bytes(const io::ModelConfig& config, int64_t num_tokens);
  static bool fit(const io::ModelConfig& config, int64_t num_tokens) {
    return bytes(config, num_tokens) > 0;
  }

  /// Room for `num_tokens` rows of every site; forgets what was there.
  void reset(const LayerWeights& layer, int64_t num_tokens);
  void append(ThreadPool& pool, size_t site_idx, View<const float, 2> rows);
  /// Every channel divided by its scale.
  void scale(ThreadPool& pool, size_t site_idx, std::span<const float> scales);
  /// Channel order[i] becomes channel i.
  void permute(ThreadPool& pool, size_t site_idx, std::span<const int32_t> order);

  [[nodiscard]] const Matrix& rows(size_t site_idx) const { return rows_[site_idx]; }
  void drop(size_t site_idx) { rows_[site_idx] = {}; }

 private:
  std::array<Matrix, kNumSites> rows_;
  std::array<int64_t, kNumSites> num_rows_{};  // so far
};

}  // namespace comet::quant
