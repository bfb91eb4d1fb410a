// quantization_config of quant_method "compressed-tensors": its groups, targets and ignored modules
// as a SchemeTable, and the manifests that Comet writes. Callers: the formats whose checkpoints are
// compressed-tensors', and quantization_config.
#pragma once

#include <memory>
#include <string>

#include "comet/formats/schemes/scheme.h"

namespace comet::formats {

constexpr std::string_view kCompressedTensors = "compressed-tensors";

/// What a field asks for that Comet lacks is an error that names it and what is accepted.
Result<std::shared_ptr<const SchemeTable>> read_compressed_tensors(const Json& quantization_config,
                                                                   const std::string& source);

// Manifests, with no field that the package's strict model of arguments does not know.
/// What a group says of its weights or inputs; group_size null where it is 0.
Json quantization_arguments(int num_bits, std::string_view type, std::string_view strategy,
                            int64_t group_size);
/// The same for inputs that are quantized token by token as they come.
Json token_arguments(int num_bits, std::string_view type);
/// One group for all linears; lm_head stays dense.
Json compressed_tensors_manifest(std::string_view disk_format, Json weights,
                                 Json input_activations);

}  // namespace comet::formats
