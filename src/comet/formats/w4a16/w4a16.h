// Format "w4a16" (docs/formats.md §6): 4-bit weights with one scale, and perhaps one zero point,
// per group of input channels; inputs are FP32 rows on the CPU. As compressed-tensors'
// "pack-quantized" lays them; other programs' 4-bit layouts are repacked into it once, by bind
// (docs/adr/0015). Called through the registry and bind_linear.
// tensors: the parts' packed words, then their scales, then (has_bias) their biases, then
// (Layout::has_zeros) their zero points as U8 [rows, groups].
#pragma once

#include "comet/formats/format.h"
#include "comet/formats/schemes/scheme.h"

namespace comet::formats {

const WeightFormat& w4a16_format();
/// Without kernels in a build without CUDA.
const FormatBackend& w4a16_cuda_backend();

namespace w4a16 {

constexpr int64_t kWordCodes = 8;  // of a 32-bit word, lowest nibble first
constexpr int kCodeOffset = 8;     // a nibble holds code + 8
constexpr int64_t kMaxChannels = 131072;

/// How a bound weight lies in memory.
struct Layout final : LinearMeta {
  int64_t k_padded = 0;        // channels of a row: a multiple of 128
  int64_t group = kBlock;      // channels of a scale: 32, 64 or 128
  bool has_zeros = false;      // else a nibble of 8 stands for 0
  std::vector<int32_t> order;  // [k] model's channel at each position; empty: their own order
};

inline const Layout& layout_of(const LinearWeight& weight) {
  return static_cast<const Layout&>(*weight.meta);
}

/// Position in LinearWeight::tensors of part `part_idx`.
inline size_t packed_slot(size_t part_idx) { return part_idx; }
inline size_t scale_slot(const LinearWeight& weight, size_t part_idx) {
  return weight.spec.parts.size() + part_idx;
}
inline size_t bias_slot(const LinearWeight& weight, size_t part_idx) {
  return 2 * weight.spec.parts.size() + part_idx;
}
inline size_t zero_slot(const LinearWeight& weight, size_t part_idx) {
  return (weight.spec.has_bias ? 3 : 2) * weight.spec.parts.size() + part_idx;
}

// The parts of the record.
Result<std::shared_ptr<const FormatConfig>> parse_config(const Json& quantization_config,
                                                         const std::string& source);
Json manifest(const ManifestParts& parts);
Result<PackedLinear> pack(const QuantizedWeight& weight);
Result<QuantizedWeight> unpack(const LinearWeight& weight);
/// `config`: a SchemeTable, or nullptr for what Comet writes itself.
Result<LinearWeight> bind(const LinearSpec& spec, const FormatConfig* config,
                          const TensorSource& tensors);
/// The kernel rows, best last (cpu/gemm_rows.cpp).
std::span<const LinearKernel> kernels();

}  // namespace w4a16
}  // namespace comet::formats
