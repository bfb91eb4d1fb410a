// What decides the bytes of a quantized model, as a JSON object whose keys a user can read: a
// resumed run must have the same. Callers: quantize_model.
#pragma once

#include "comet/base/json.h"
#include "comet/io/checkpoint.h"
#include "comet/ops/context.h"
#include "comet/quant/layer/calibration.h"
#include "comet/quant/recipe.h"
#include "comet/quant/run/quality_gate.h"

namespace comet::quant {

/// The model's files count by size and time of change, texts by a hash of their tokens.
Json run_fingerprint(const Context& ctx, const io::Checkpoint& checkpoint,
                     const QuantizeOptions& options, const CalibrationSet& set,
                     const GateSet& gate);

}  // namespace comet::quant
