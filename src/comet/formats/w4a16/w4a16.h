// Format "w4a16" (docs/formats.md §6): symmetric 4-bit weights with one BF16 or FP16 scale per 128
// channels, as compressed-tensors' "pack-quantized" lays them; inputs are FP32 rows on the CPU.
// Called through the registry.
// tensors: the parts' packed words, then their scales, then (has_bias) their biases.
#pragma once

#include "comet/formats/format.h"

namespace comet::formats {

const WeightFormat& w4a16_format();

namespace w4a16 {

constexpr int64_t kWordCodes = 8;  // of a 32-bit word, lowest nibble first
constexpr int kCodeOffset = 8;     // a nibble holds code + 8
constexpr int64_t kMaxChannels = 131072;

/// Position in LinearWeight::tensors of part `part_idx`.
inline size_t packed_slot(size_t part_idx) { return part_idx; }
inline size_t scale_slot(const LinearWeight& weight, size_t part_idx) {
  return weight.spec.parts.size() + part_idx;
}
inline size_t bias_slot(const LinearWeight& weight, size_t part_idx) {
  return 2 * weight.spec.parts.size() + part_idx;
}

// The parts of the record, one file each.
Result<std::shared_ptr<const FormatConfig>> parse_config(const Json& quantization_config,
                                                         const std::string& source);
Json manifest(const ManifestParts& parts);
Result<PackedLinear> pack(const QuantizedWeight& weight);
Result<QuantizedWeight> unpack(const LinearWeight& weight);
/// The kernel rows, best last (cpu/gemm_rows.cpp).
std::span<const LinearKernel> kernels();

}  // namespace w4a16
}  // namespace comet::formats
