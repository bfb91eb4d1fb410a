// quantize_model: a dense checkpoint in, a quantized model folder out, one layer in memory at a
// time. Each layer is calibrated on what the quantized layers before it really produce. Callers:
// apps, study. The same inputs give byte-identical files for any number of threads, and whether or
// not the run was interrupted and resumed.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "comet/io/checkpoint.h"
#include "comet/ops/context.h"
#include "comet/quant/layer/calibration.h"
#include "comet/quant/quant_report.h"
#include "comet/quant/recipe.h"
#include "comet/quant/run/forecast.h"
#include "comet/quant/run/quality_gate.h"

namespace comet::quant {

struct QuantizeRequest {
  QuantizeOptions options;
  std::string out_dir;
  bool force = false;  // replace an existing out_dir
  /// Called with the number of layers done: once before the first, then after each.
  std::function<void(int64_t num_layers_done)> on_layer = {};
  /// Held-back text for the quality gate; without samples the gate is left out.
  GateSet gate = {};
  /// Goes on in the out_dir.partial of an interrupted run of the same request, where there is one.
  bool resume = false;
  /// Asked after each layer; when true the run ends with an error that says how to resume.
  std::function<bool()> should_stop = {};
};

/// Writes out_dir by way of out_dir.partial: config.json, model.safetensors, tokenizer files,
/// quant_report.json. When the process is killed or told to stop, out_dir.partial holds every
/// finished layer for `resume`. On any other error nothing is left and an existing out_dir is
/// untouched. `text` may be empty where needs_calibration() says so, and is not used then.
Result<QuantReport> quantize_model(Context& ctx, const io::Checkpoint& checkpoint,
                                   const QuantizeRequest& request, const CalibrationSet& text);

}  // namespace comet::quant
