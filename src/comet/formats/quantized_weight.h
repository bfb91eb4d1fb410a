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
/// Span of one dynamic activation scale: docs/formats.md §2.4. A16: inputs stay floats.
enum class ActScale { kS1, kS2, kS2h, kA16 };

std::string_view granularity_name(Granularity granularity);  // channel, group, progressive
std::string_view act_scale_name(ActScale scale);             // S1, S2, S2h, A16

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
  // Rows are the parts' rows one after another, unpadded; columns are in stored order.
  std::vector<int8_t> codes;  // [rows, k_padded]: s4 in [−8, 7]; u4 in [0, 15] for progressive
  std::vector<float> channel_scale;       // [rows]; channel and progressive
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
