// QuantReport: what quantization did to a model, and quant_report.json (docs/product.md §2).
// Callers: quantize_model fills it, apps print it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "comet/base/json.h"
#include "comet/quant/layer/layer_quantizer.h"
#include "comet/quant/recipe.h"
#include "comet/quant/run/quality_gate.h"

namespace comet::quant {

struct QuantReport {
  QuantizeOptions options;
  int64_t num_calibration_samples = 0;
  int64_t num_calibration_tokens = 0;
  int64_t size_bytes = 0;  // of all tensors
  double seconds = 0.0;    // of the run; not in quant_report.json, which repeats byte for byte
  std::vector<LinearReport> linears;
  std::optional<GateResult> gate;  // empty when the gate was left out

  /// Of the multiply-accumulates of the quantized linears, and of their blocks.
  [[nodiscard]] double int4_activation_share() const;
  [[nodiscard]] double int4_block_share() const;
};

Json report_json(const QuantReport& report);

/// All options under their names in the report: also what decides whether a run may be resumed.
Json options_json(const QuantizeOptions& options);

// One row of "layers", and back.
Json linear_json(const LinearReport& linear);
LinearReport linear_from_json(const Json& row);

/// What tells good linears from bad ones: of the output where it was measured, else of the weight.
double snr_db(const LinearReport& linear);

/// A sentence for the user where the gate finds perplexity > 1.10× or KL > 0.1, with the three
/// linears of the lowest SNR; empty otherwise.
std::string gate_warning(const QuantReport& report);

}  // namespace comet::quant
