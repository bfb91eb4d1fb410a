// W8 by rows (docs/formats.md §1): scale absmax/127 per output channel, round to nearest. Callers:
// checkpoint_writer, for `--lm-head int8`.
#pragma once

#include <string>

#include "comet/base/result.h"
#include "comet/formats/quantized_weight.h"
#include "comet/tensor/tensor.h"

namespace comet::quant {

/// `tensor` [rows, k] of a float type becomes the linear `name` of one part; NaN or Inf is an
/// error.
Result<formats::QuantizedWeight> quantize_int8_rows(const std::string& name, const Tensor& tensor);

}  // namespace comet::quant
