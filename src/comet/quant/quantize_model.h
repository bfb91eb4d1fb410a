// quantize_model: a dense checkpoint in, a w4ax model folder out, one layer in memory at a time.
// Each layer is calibrated on what the quantized layers before it really produce. Callers: apps,
// study. The same inputs give byte-identical files for any number of threads.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "comet/io/checkpoint.h"
#include "comet/ops/context.h"
#include "comet/quant/layer/calibration.h"
#include "comet/quant/quant_report.h"
#include "comet/quant/recipe.h"

namespace comet::quant {

struct QuantizeRequest {
  QuantizeOptions options;
  std::string out_dir;
  bool force = false;  // replace an existing out_dir
  /// Called after each layer with the number done.
  std::function<void(int64_t num_layers_done)> on_layer;
};

/// What a run will take; shown before it starts.
struct QuantizeForecast {
  int64_t output_bytes = 0;
  int64_t peak_memory_bytes = 0;  // beside the mapped checkpoint
};
QuantizeForecast forecast(const io::Checkpoint& checkpoint, const io::ModelConfig& config,
                          const QuantizeOptions& options, const CalibrationSet& set);

/// Writes out_dir by way of out_dir.partial: config.json, model.safetensors, tokenizer files,
/// quant_report.json. On an error nothing is left and an existing out_dir is untouched.
Result<QuantReport> quantize_model(Context& ctx, const io::Checkpoint& checkpoint,
                                   const QuantizeRequest& request, const CalibrationSet& set);

}  // namespace comet::quant
