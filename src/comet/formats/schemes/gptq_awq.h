// quantization_config of quant_method "gptq" (AutoGPTQ, GPTQModel) and "awq" (AutoAWQ) as a
// SchemeTable. Called by quantization_config.
#pragma once

#include <memory>
#include <string>

#include "comet/formats/schemes/scheme.h"

namespace comet::formats {

Result<std::shared_ptr<const SchemeTable>> read_gptq(const Json& quantization_config,
                                                     const std::string& source);
Result<std::shared_ptr<const SchemeTable>> read_awq(const Json& quantization_config,
                                                    const std::string& source);

}  // namespace comet::formats
