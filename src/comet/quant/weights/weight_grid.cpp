#include "comet/quant/weights/weight_grid.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "comet/base/check.h"
#include "comet/tensor/float8.h"

namespace comet::quant {
namespace {

using formats::Granularity;
using formats::kBlock;

constexpr int kNumRatios = 20;  // 1, 0.975 … 0.525
// Progressive: |w8| ≤ 119, so that a level half a step (g ≤ 16) beyond it still fits in 8 bits.
constexpr float kMaxLevelOne = 119.0F;
constexpr int kMaxMultiplier = 16;
constexpr float kMaxProgressiveCode = 15.0F;

float absmax(const float* w, int64_t count) {
  float largest = 0.0F;
  for (int64_t i = 0; i < count; ++i) largest = std::max(largest, std::fabs(w[i]));
  return largest;
}

/// Σ importance·(w − level)² over whole blocks. Eight lanes: the compiler may not reorder a single
/// chain.
double grid_error(const float* w, const float* importance, int64_t count, const Levels& levels) {
  constexpr int kLanes = 8;
  const float inverse = levels.step > 0.0F ? 1.0F / levels.step : 0.0F;
  double total = 0.0;
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    float sums[kLanes] = {};
    for (int64_t i = begin; i < begin + kBlock; i += kLanes) {
      for (int lane = 0; lane < kLanes; ++lane) {
        const float x = w[i + lane];
        float code = std::nearbyint((x - levels.base) * inverse);
        code = code < levels.low ? levels.low : code;
        code = code > levels.high ? levels.high : code;
        const float d = x - (levels.base + levels.step * code);
        sums[lane] += importance[i + lane] * (d * d);
      }
    }
    for (const float sum : sums) total += sum;
  }
  return total;
}

float max_code(WeightCodes codes) {
  if (codes == WeightCodes::kS4) return 7.0F;
  return codes == WeightCodes::kS8 ? 127.0F : kMaxFloat8E4M3;
}

Levels symmetric(float step, WeightCodes codes) {
  if (codes == WeightCodes::kS4) return {step, 0.0F, -8.0F, 7.0F};
  return {step, 0.0F, -127.0F, 127.0F};
}

/// absmax · ratio / largest code as the stored type would hold it.
float stored_scale(float largest, float ratio, GridKind kind) {
  const float scale = largest * ratio / max_code(kind.codes);
  const bool narrow = kind.granularity == Granularity::kGroup || kind.codes != WeightCodes::kS4;
  if (!narrow || kind.scale_type == DType::kF32) return scale;
  if (kind.scale_type == DType::kBF16) return to_float(to_bfloat16(scale));
  constexpr float kMaxFloat16 = 65504.0F;
  return to_float(to_float16(std::min(scale, kMaxFloat16)));
}

/// Scale of one symmetric span (a row or a group).
float symmetric_scale(const float* w, const float* importance, int64_t count, GridKind kind,
                      bool search) {
  const float largest = absmax(w, count);
  float best = stored_scale(largest, 1.0F, kind);
  if (!search || largest == 0.0F || kind.codes == WeightCodes::kE4M3) return best;
  double least = grid_error(w, importance, count, symmetric(best, kind.codes));
  for (int i = 1; i < kNumRatios; ++i) {
    const float ratio = static_cast<float>(40 - i) / 40.0F;
    const float scale = stored_scale(largest, ratio, kind);
    const double error = grid_error(w, importance, count, symmetric(scale, kind.codes));
    if (error < least) {
      least = error;
      best = scale;
    }
  }
  return best;
}

struct ProgressiveGroup {
  int multiplier = 1;
  int offset = 0;
};

Levels progressive_levels(float scale, ProgressiveGroup group) {
  const auto g = static_cast<float>(group.multiplier);
  const auto o = static_cast<float>(group.offset);
  // u·g + o stays in s8.
  return {scale * g, scale * o, std::max(0.0F, std::ceil((-128.0F - o) / g)),
          std::min(kMaxProgressiveCode, std::floor((127.0F - o) / g))};
}

/// g and o of one group under the row's `scale` > 0.
ProgressiveGroup progressive_group(const float* w, const float* importance, float scale,
                                   bool search) {
  const auto [low, high] = std::minmax_element(w, w + kBlock);
  const float least_w8 = *low / scale;
  const float range = (*high - *low) / scale;
  const int covering =
      std::clamp(static_cast<int>(std::ceil(range / kMaxProgressiveCode)), 1, kMaxMultiplier);
  // Centres the 15 steps of g on the group's range.
  const auto centred = [&](int g) {
    return std::nearbyint(least_w8 + 0.5F * (range - kMaxProgressiveCode * static_cast<float>(g)));
  };
  const auto group_of = [&](int g, float offset) {
    return ProgressiveGroup{g, static_cast<int>(std::clamp(offset, -128.0F, 127.0F))};
  };
  ProgressiveGroup best = group_of(covering, centred(covering));
  if (!search) return best;
  double least = std::numeric_limits<double>::infinity();
  for (int g = covering; g >= std::max(1, covering / 2); --g) {
    for (const float shift : {0.0F, -0.5F, -0.25F, 0.25F, 0.5F}) {
      const float offset = centred(g) + std::nearbyint(shift * static_cast<float>(g));
      const ProgressiveGroup group = group_of(g, offset);
      const double error = grid_error(w, importance, kBlock, progressive_levels(scale, group));
      if (error < least) {
        least = error;
        best = group;
      }
    }
  }
  return best;
}

void choose_row(WeightGrid& grid, const Matrix& stored, const float* importance, bool search,
                int64_t row) {
  const float* w = stored.row(row);
  const GridKind kind{grid.granularity, grid.scale_type, grid.codes};
  switch (grid.granularity) {
    case Granularity::kChannel:
      grid.channel_scale[row] = symmetric_scale(w, importance, stored.cols, kind, search);
      return;
    case Granularity::kGroup:
      for (int64_t g = 0; g < grid.num_groups; ++g) {
        grid.group_scale[g * grid.num_rows + row] =
            symmetric_scale(w + g * kBlock, importance + g * kBlock, kBlock, kind, search);
      }
      return;
    case Granularity::kProgressive: {
      const float scale = absmax(w, stored.cols) / kMaxLevelOne;
      grid.channel_scale[row] = scale;
      for (int64_t g = 0; g < grid.num_groups; ++g) {
        ProgressiveGroup group;
        if (scale > 0.0F) {
          group = progressive_group(w + g * kBlock, importance + g * kBlock, scale, search);
        }
        grid.group_multiplier[g * grid.num_rows + row] = static_cast<uint8_t>(group.multiplier);
        grid.group_offset[g * grid.num_rows + row] = static_cast<int8_t>(group.offset);
      }
      return;
    }
  }
}

}  // namespace

float nearest_code(const Levels& levels, float w) {
  if (!(levels.step > 0.0F)) return std::clamp(0.0F, levels.low, levels.high);
  return std::clamp(std::nearbyint((w - levels.base) * (1.0F / levels.step)), levels.low,
                    levels.high);
}

void code_nearest(const WeightGrid& grid, int64_t row, int64_t group, std::span<const float> w,
                  std::span<int8_t> codes) {
  if (grid.codes == WeightCodes::kE4M3) {
    const float scale = grid.channel_scale[row];
    for (size_t i = 0; i < w.size(); ++i) {
      const float ratio = scale > 0.0F ? w[i] / scale : 0.0F;
      codes[i] = std::bit_cast<int8_t>(to_float8_e4m3(ratio).bits);
    }
    return;
  }
  const Levels levels = grid.levels(row, group);
  for (size_t i = 0; i < w.size(); ++i) codes[i] = static_cast<int8_t>(nearest_code(levels, w[i]));
}

void decode(const WeightGrid& grid, int64_t row, int64_t group, std::span<const int8_t> codes,
            std::span<float> w) {
  if (grid.codes == WeightCodes::kE4M3) {
    for (size_t i = 0; i < w.size(); ++i) {
      w[i] = to_float(Float8E4M3{std::bit_cast<uint8_t>(codes[i])}) * grid.channel_scale[row];
    }
    return;
  }
  const Levels levels = grid.levels(row, group);
  for (size_t i = 0; i < w.size(); ++i) w[i] = level_value(levels, codes[i]);
}

Levels WeightGrid::levels(int64_t row, int64_t group) const {
  COMET_DCHECK(codes != WeightCodes::kE4M3, "FP8 numbers are no even steps");
  const int64_t i = group * num_rows + row;
  switch (granularity) {
    case Granularity::kChannel:
      return symmetric(channel_scale[row], codes);
    case Granularity::kGroup:
      return symmetric(group_scale[i], codes);
    case Granularity::kProgressive:
      return progressive_levels(channel_scale[row], {group_multiplier[i], group_offset[i]});
  }
  return {};
}

WeightGrid choose_grid(ThreadPool& pool, const Matrix& stored, GridKind kind, bool search,
                       std::span<const float> importance) {
  COMET_CHECK(stored.cols % kBlock == 0, "{} stored channels", stored.cols);
  COMET_CHECK(importance.empty() || static_cast<int64_t>(importance.size()) == stored.cols,
              "{} importances for {} channels", importance.size(), stored.cols);
  WeightGrid grid;
  grid.granularity = kind.granularity;
  grid.scale_type = kind.scale_type;
  grid.codes = kind.codes;
  grid.num_rows = stored.rows;
  grid.num_groups = stored.cols / kBlock;
  const int64_t num_cells = grid.num_rows * grid.num_groups;
  if (kind.granularity == Granularity::kGroup) {
    grid.group_scale.resize(num_cells);
  } else {
    grid.channel_scale.resize(grid.num_rows);
  }
  if (kind.granularity == Granularity::kProgressive) {
    grid.group_multiplier.resize(num_cells);
    grid.group_offset.resize(num_cells);
  }
  const std::vector<float> equal(importance.empty() ? stored.cols : 0, 1.0F);
  const float* weights = importance.empty() ? equal.data() : importance.data();
  pool.parallel_for(stored.rows,
                    [&](int64_t row, int) { choose_row(grid, stored, weights, search, row); });
  return grid;
}

}  // namespace comet::quant
