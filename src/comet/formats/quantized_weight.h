// QuantizedWeight: what a quantization method decides about one linear: integers, scales and the
// order of its input channels. Format-free: no bit positions. Methods (quant/) make it, formats
// pack it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "comet/tensor/dtype.h"

namespace comet::formats {

constexpr int64_t kBlock = 128;  // channels of an activation block and of a weight group

/// Span of one 4-bit weight scale: docs/formats.md §2.5.
enum class Granularity { kChannel, kGroup, kProgressive };
/// Span of one dynamic activation scale: docs/formats.md §2.4. A16: inputs stay floats; token: one
/// 8-bit scale for the whole row.
enum class ActScale { kS1, kS2, kS2h, kA16, kToken };
/// What a code stands for: itself, or the FP8 number whose bits it holds (docs/formats.md §1).
enum class CodeType { kInt, kE4M3 };

std::string_view granularity_name(Granularity granularity);  // channel, group, progressive
std::string_view act_scale_name(ActScale scale);             // S1, S2, S2h, A16, token

/// The input of one quantized linear. Stored order: [INT4 blocks | INT8 blocks], K padded with zero
/// channels (at the end of the INT4 segment) to a multiple of 128.
struct SiteLayout {
  std::string name;  // "model.layers.0.self_attn.qkv_in"
  int64_t k = 0;     // channels of the model
  int64_t k_padded = 0;
  int64_t int8_blocks = 0;  // the last blocks of the stored order
  float clip = 1.0F;        // A4: a = clip · absmax
  ActScale scale = ActScale::kS2;
  std::vector<int32_t>
      perm;  // [k_padded] source channel of each stored position, −1 = zero; empty = identity

  [[nodiscard]] int64_t num_blocks() const { return k_padded / kBlock; }
  [[nodiscard]] int64_t int4_channels() const { return k_padded - int8_blocks * kBlock; }
};

struct QuantizedWeight {
  std::string name;                // "model.layers.0.self_attn.qkv_proj"
  std::vector<std::string> parts;  // {"q_proj", "k_proj", "v_proj"}: fused linears are stored fused
  std::vector<int64_t> part_rows;  // output channels of each part, unpadded
  SiteLayout site;
  Granularity granularity = Granularity::kChannel;
  CodeType code_type = CodeType::kInt;
  // Rows are the parts' rows one after another, unpadded; columns are in stored order.
  // [rows, k_padded]: s4 in [−8, 7]; u4 in [0, 15] for progressive; w8a8: s8, or the bits of E4M3
  std::vector<int8_t> codes;
  std::vector<float> channel_scale;  // [rows]; channel and progressive
  // In which channel_scale is stored, exactly. w4ax and lm_head: F32; w8a8: also BF16, F16.
  DType channel_scale_type = DType::kF32;
  // Of w4a16: channels of a group scale, and the code that stands for 0 (empty: 0).
  int64_t group_size = kBlock;
  std::vector<int8_t> group_zero;         // [k_padded/group_size, rows]; w = (code − zero)·scale
  std::vector<float> group_scale;         // [k_padded/128, rows]; group; exact in scale_type
  DType scale_type = DType::kF16;         // of the stored group_scale: F16 or BF16
  std::vector<uint8_t> group_multiplier;  // [k_padded/128, rows] g ∈ 1…16; progressive
  std::vector<int8_t> group_offset;       // [k_padded/128, rows] o; progressive: w8 = u·g + o
  std::vector<float> bias;                // [rows] or empty

  [[nodiscard]] int64_t num_rows() const {
    int64_t total = 0;
    for (const int64_t rows : part_rows) total += rows;
    return total;
  }
};

}  // namespace comet::formats
