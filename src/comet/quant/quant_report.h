// QuantReport: what quantization did to a model, and quant_report.json (docs/product.md §2).
// Callers: quantize_model fills it, apps print it.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "comet/base/json.h"
#include "comet/quant/layer/layer_quantizer.h"
#include "comet/quant/recipe.h"

namespace comet::quant {

struct QuantReport {
  QuantizeOptions options;
  int64_t num_calibration_samples = 0;
  int64_t num_calibration_tokens = 0;
  int64_t size_bytes = 0;  // of all tensors
  double seconds = 0.0;
  std::vector<LinearReport> linears;
  std::optional<double> perplexity_before;  // of the quality gate
  std::optional<double> perplexity_after;

  /// Of the multiply-accumulates of the quantized linears, and of their blocks.
  [[nodiscard]] double int4_activation_share() const;
  [[nodiscard]] double int4_block_share() const;
};

Json report_json(const QuantReport& report);

}  // namespace comet::quant
