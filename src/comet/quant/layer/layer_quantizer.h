// Quantizes one decoder layer (docs/formats.md §2, §10): statistics → equalizer or SmoothQuant →
// stored order → rotation → clip ratios → weights; FP8 is weights only. Format-free: it hands back
// QuantizedWeights. Callers: quantize_model.
#pragma once

#include <array>
#include <vector>

#include "comet/formats/quantized_weight.h"
#include "comet/quant/blocks/block_plan.h"
#include "comet/quant/layer/layer_stage.h"
#include "comet/quant/linear/linear_quantizer.h"

namespace comet::quant {

struct QuantizedLayer {
  std::vector<std::vector<float>> norms;  // as LayerWeights::norms, all foldings in
  std::array<formats::QuantizedWeight, kNumSites> linears;  // in the order of kSites
  std::array<LinearReport, kNumSites> reports;
};

/// Takes `stage` apart, whose layer is as load_layer_weights made it; its input stays unchanged.
/// int8_blocks[i] ≤ the blocks of site i.
Result<QuantizedLayer> quantize_layer(LayerStage stage, const SiteBlocks& int8_blocks);

}  // namespace comet::quant
