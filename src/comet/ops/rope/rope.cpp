#include "comet/ops/rope/rope.h"

#include <array>
#include <cmath>

#include "comet/ops/op_table.h"
#include "comet/ops/parallel_rows.h"

namespace comet {
namespace {

constexpr int64_t kMaxPairs = 512;

}  // namespace

void rope(Context& ctx, View<float, 3> x, std::span<const int32_t> positions,
          std::span<const float> inv_freq) {
  const auto num_pairs = static_cast<int64_t>(inv_freq.size());
  COMET_CHECK(static_cast<int64_t>(positions.size()) == x.size(0) && x.size(2) == 2 * num_pairs,
              "x [{}, {}, {}], {} positions, {} frequencies", x.size(0), x.size(1), x.size(2),
              positions.size(), num_pairs);
  COMET_CHECK(num_pairs <= kMaxPairs, "head_dim {}", x.size(2));
  COMET_CHECK(x.strides[2] == 1);
  ctx.ops.rope(ctx, x, positions, inv_freq);
}

void rope_cpu(Context& ctx, View<float, 3> x, std::span<const int32_t> positions,
              std::span<const float> inv_freq) {
  const auto num_pairs = static_cast<int64_t>(inv_freq.size());
  // A sine costs as much as some thirty plain elements.
  const int64_t row_elements = x.size(1) * x.size(2) + 60 * num_pairs;
  parallel_rows(ctx, x.size(0), row_elements, [&](int64_t token_idx) {
    std::array<float, kMaxPairs> cosines;
    std::array<float, kMaxPairs> sines;
    const auto position = static_cast<float>(positions[token_idx]);
    for (int64_t i = 0; i < num_pairs; ++i) {
      const float angle = position * inv_freq[i];
      cosines[i] = std::cos(angle);
      sines[i] = std::sin(angle);
    }
    for (int64_t head_idx = 0; head_idx < x.size(1); ++head_idx) {
      float* head = x.row(token_idx) + head_idx * x.strides[1];
      ctx.ops.rope_row(head, cosines.data(), sines.data(), num_pairs);
    }
  });
}

}  // namespace comet
