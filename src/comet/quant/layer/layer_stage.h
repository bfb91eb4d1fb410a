// LayerStage: one layer between loading and rounding: its weights with the exact foldings applied
// (√(k/q), equalizer or SmoothQuant, rotation of v) and the statistics of its four inputs. Callers:
// layer_quantizer, and the planning of INT8 blocks, which looks at a layer as it will be quantized.
#pragma once

#include <array>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "comet/ops/context.h"
#include "comet/quant/fmpq/site_stats.h"
#include "comet/quant/layer/calibration.h"
#include "comet/quant/layer/layer_weights.h"
#include "comet/quant/layer/site_inputs.h"
#include "comet/quant/recipe.h"

namespace comet::quant {

struct LayerStage {
  Backend& backend;
  const QuantizeOptions& options;
  const io::ModelConfig& config;
  const CalibrationSet& set;
  Matrix& hidden;  // the layer's input over all calibration tokens; unchanged
  LayerWeights layer;
  std::array<SiteStats, kNumSites> stats = {};  // of the folded layer
  std::array<int64_t, kNumSites> num_equalized = {};
  std::array<std::optional<double>, kNumSites> smoothing = {};  // strength; none: unchanged
  std::array<formats::SiteLayout, kNumSites> layouts = {};      // filled by layer_quantizer
  bool keep_inputs = false;                                     // asks fold_and_measure for:
  SiteInputs inputs = {};                                       // of the folded layer
};

using SiteHandler = std::function<Status(size_t site_idx, ConstRows rows)>;

/// Runs the float layer (widest cache) over the calibration tokens and shows `handle` the input
/// rows of every site, where and as the device multiplies them.
Status observe_sites(LayerStage& stage, const SiteHandler& handle);

/// The largest of `values` [channels of o_in] among the query heads that read a channel of V.
std::vector<float> value_channel_max(const LayerWeights& layer, std::span<const float> values);

/// The site's input divided by `scales`, wherever it or what follows from it is kept.
void fold_site(LayerStage& stage, size_t site_idx, std::span<const float> scales);

/// Folds what the options ask for into stage.layer and fills its statistics.
Status fold_and_measure(LayerStage& stage);

}  // namespace comet::quant
