// Layer norm of rows (Ba, Kiros, Hinton 2016): out = (x − mean) / √(variance + eps) · weight +
// bias.
#pragma once

#include "comet/ops/context.h"
#include "comet/tensor/view.h"

namespace comet {

/// weight and bias [n] of a layer norm.
struct LayerNormWeights {
  View<const float, 1> weight;
  View<const float, 1> bias;
  float eps = 0.0F;
};

/// out and x [rows, n] (may be the same).
void layer_norm(Context& ctx, View<float, 2> out, View<const float, 2> x,
                const LayerNormWeights& norm);
/// The slot of the CPU tables.
void layer_norm_cpu(Context& ctx, View<float, 2> out, View<const float, 2> x,
                    const LayerNormWeights& norm);

}  // namespace comet
