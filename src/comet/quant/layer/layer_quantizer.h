// Quantizes one decoder layer (docs/formats.md §2, §10): statistics → equalizer or SmoothQuant →
// stored order → rotation → clip ratios → weights; FP8 is weights only. Format-free: it hands back
// QuantizedWeights. Callers: quantize_model.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "comet/formats/quantized_weight.h"
#include "comet/quant/blocks/block_plan.h"
#include "comet/quant/layer/layer_stage.h"

namespace comet::quant {

/// What the report says of one linear.
struct LinearReport {
  std::string name;
  int64_t rows = 0;
  int64_t blocks = 0;
  int64_t int8_blocks = 0;
  int64_t num_equalized = 0;  // channels
  float clip = 1.0F;
  double weight_mse = 0.0;     // mean square of decoded − float weight, in stored space
  double weight_snr_db = 0.0;  // the same against the weight's own mean square
  /// Of the linear alone, on rows kept from calibration; none where nothing was calibrated.
  std::optional<double> output_snr_db;
  std::optional<double> smoothing;  // strength at its site; none where s = 1
};

struct QuantizedLayer {
  std::vector<std::vector<float>> norms;  // as LayerWeights::norms, all foldings in
  std::array<formats::QuantizedWeight, kNumSites> linears;  // in the order of kSites
  std::array<LinearReport, kNumSites> reports;
};

/// Takes `stage` apart, whose layer is as load_layer_weights made it; its input stays unchanged.
/// int8_blocks[i] ≤ the blocks of site i.
Result<QuantizedLayer> quantize_layer(LayerStage stage, const SiteBlocks& int8_blocks);

}  // namespace comet::quant
