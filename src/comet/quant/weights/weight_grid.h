// WeightGrid: the values a weight can take, per output row and group of 128 stored channels: base +
// step · code, code ∈ [low, high] (docs/formats.md §1, §2.5), or step times an FP8 number. Scales
// are rounded to their stored type before anything is coded with them. Callers: weight_methods,
// gptq.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "comet/device/thread_pool.h"
#include "comet/formats/quantized_weight.h"
#include "comet/quant/matrix.h"

namespace comet::quant {

/// s4 (u4 for progressive), s8, or the bits of E4M3 numbers.
enum class WeightCodes { kS4, kS8, kE4M3 };

struct Levels {
  float step = 0.0F;  // 0: the only value is 0
  float base = 0.0F;
  float low = -8.0F;
  float high = 7.0F;
};

/// Code of the level nearest to w (ties to the even code); 0 when step is 0.
float nearest_code(const Levels& levels, float w);
inline float level_value(const Levels& levels, float code) {
  return levels.base + levels.step * code;
}

/// Span of a scale, the type that scales are stored in (F32 for s4 of channel and progressive,
/// whatever is said here), and the codes: kS8 and kE4M3 go with kChannel.
struct GridKind {
  formats::Granularity granularity = formats::Granularity::kChannel;
  DType scale_type = DType::kF16;
  WeightCodes codes = WeightCodes::kS4;
};

struct WeightGrid {
  formats::Granularity granularity = formats::Granularity::kChannel;
  DType scale_type = DType::kF16;
  WeightCodes codes = WeightCodes::kS4;
  int64_t num_rows = 0;
  int64_t num_groups = 0;
  // As in QuantizedWeight; what the granularity does not use stays empty.
  std::vector<float> channel_scale;
  std::vector<float> group_scale;
  std::vector<uint8_t> group_multiplier;
  std::vector<int8_t> group_offset;

  /// Not for kE4M3.
  [[nodiscard]] Levels levels(int64_t row, int64_t group) const;
};

/// Codes of `count` weights of one row and group, and the values they stand for.
void code_nearest(const WeightGrid& grid, int64_t row, int64_t group, std::span<const float> w,
                  std::span<int8_t> codes);
void decode(const WeightGrid& grid, int64_t row, int64_t group, std::span<const int8_t> codes,
            std::span<float> w);

/// The grid for `stored` [rows, k_padded]. Plain: scales from absmax (from the range, for
/// progressive groups). `search`: the candidate with the least Σ importance·(w − level)² of each
/// span; `importance` [k_padded] or empty for equal channels; ties go to the larger range.
/// kE4M3 has no search: an FP8 number's own exponent does what a clipped scale would.
WeightGrid choose_grid(ThreadPool& pool, const Matrix& stored, GridKind kind, bool search,
                       std::span<const float> importance);

}  // namespace comet::quant
