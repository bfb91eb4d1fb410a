// Quantizes one linear whose weight lies in stored space already: grid and codes by the options'
// method, and what the report says of it. Format-free: it hands back a QuantizedWeight. Callers:
// layer_quantizer (decoders), quant/vision (image classifiers).
#pragma once

#include <optional>
#include <span>
#include <string>

#include "comet/formats/format.h"
#include "comet/quant/backend/backend.h"
#include "comet/quant/recipe.h"

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

struct LinearProblem {
  const formats::LinearSpec& spec;
  const formats::SiteLayout& layout;  // of its input
  const Matrix& weight;               // [n, k_padded] stored, rotated
  const Matrix& x;                    // kept rows of its input, the same; may have none
  const std::vector<float>& bias;     // [n] or empty
  SiteHessian* hessian = nullptr;     // where options.weights needs one
};

struct QuantizedLinear {
  formats::QuantizedWeight weight;
  LinearReport report;
};

/// options: format, codes, granularity, weights, search_scales, scale_type and damp count. A4-free
/// inputs (A16) with one scale per channel become w4a16's single group of all channels.
Result<QuantizedLinear> quantize_linear(Backend& backend, const QuantizeOptions& options,
                                        const LinearProblem& problem);

}  // namespace comet::quant
