// Rotary positions (Su et al. 2021) in the half-split convention of Hugging Face LLaMA: the pair of
// channels (i, i + head_dim/2) turns by the angle position · inv_freq[i], an FP32 product.
#pragma once

#include <cstdint>
#include <span>

#include "comet/ops/context.h"
#include "comet/tensor/view.h"

namespace comet {

/// x [tokens, heads, head_dim] in place, positions [tokens], inv_freq [head_dim/2].
void rope(Context& ctx, View<float, 3> x, std::span<const int32_t> positions,
          std::span<const float> inv_freq);
/// The slot of the CPU tables.
void rope_cpu(Context& ctx, View<float, 3> x, std::span<const int32_t> positions,
              std::span<const float> inv_freq);

}  // namespace comet
