// Weights of 8-bit codes with one scale per output channel, as compressed-tensors lays them
// ("int-quantized", "float-quantized"): what w8a8-int and w8a8-fp8 have in common. Callers: their
// records.
// tensors of a bound linear: the parts' codes I8 or F8_E4M3 [n_i, k], then their scales [n_i, 1] in
// BF16, F16 or F32 ([1] where one scale serves a part), then (has_bias) their biases. A linear at
// the top of the model (lm_head of `--lm-head int8`) has Comet's own form instead: scales F32 [n].
#pragma once

#include "comet/formats/format.h"

namespace comet::formats::w8a8 {

constexpr int64_t kMaxChannels = 131072;  // headroom of int32 sums

/// The scales as FP32, in which every stored type is exact.
struct ChannelMeta final : LinearMeta {
  std::vector<float> scales;  // [n] of all output channels
  float input_scale = 0;      // of every input row; 0: each row has its own
};

inline const float* scales_of(const LinearWeight& weight) {
  return static_cast<const ChannelMeta&>(*weight.meta).scales.data();
}

/// 0: a row's scale comes from its values.
inline float input_scale_of(const LinearWeight& weight) {
  return static_cast<const ChannelMeta&>(*weight.meta).input_scale;
}

/// Biases of part `part_idx`; has_bias only.
inline const Tensor& bias_of(const LinearWeight& weight, size_t part_idx) {
  return weight.tensors[2 * weight.spec.parts.size() + part_idx];
}

// The functions of a record, for its code type.
Result<std::shared_ptr<const FormatConfig>> parse_config(const Json& quantization_config,
                                                         const std::string& source);
Json manifest(const WeightFormat& format);
/// `config`: a SchemeTable, or nullptr for what Comet writes itself.
Result<LinearWeight> bind(const WeightFormat& format, CodeType type, const LinearSpec& spec,
                          const FormatConfig* config, const TensorSource& tensors);
Result<PackedLinear> pack(const WeightFormat& format, CodeType type, const QuantizedWeight& weight);
Result<QuantizedWeight> unpack(CodeType type, const LinearWeight& weight);

}  // namespace comet::formats::w8a8
