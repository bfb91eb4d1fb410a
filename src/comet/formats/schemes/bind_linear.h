// bind_linear: binds a linear in the format that its model's quantization_config gives it, and the
// reader of that config for any quant_method. Callers: nn (load), models/load, the exporter.
#pragma once

#include <memory>
#include <string>

#include "comet/formats/format.h"

namespace comet::formats {

/// Format and config of a model's linears. Where the config is a SchemeTable, linears may differ;
/// `format` is that of the first group.
struct ModelScheme {
  const WeightFormat* format = nullptr;
  std::shared_ptr<const FormatConfig> config;
  const WeightFormat* lm_head = nullptr;  // nullptr: the config does not quantize it
};

/// quant_method "comet", "compressed-tensors", "gptq" or "awq".
Result<ModelScheme> read_quantization_config(const Json& quantization_config,
                                             const std::string& source);

/// `format` binds, unless `config` is a SchemeTable: then the format that the table gives the
/// linear, which may be dense. The bound weight names its format.
Result<LinearWeight> bind_linear(const LinearSpec& spec, const WeightFormat& format,
                                 const FormatConfig* config, const TensorSource& tensors);

}  // namespace comet::formats
