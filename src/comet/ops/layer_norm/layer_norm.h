// Layer norm of rows (Ba, Kiros, Hinton 2016): out = (x − mean) / √(variance + eps) · weight +
// bias.
#pragma once

#include "comet/ops/context.h"
#include "comet/tensor/rows.h"

namespace comet {

/// weight and bias [n] of a layer norm, FP32 on every device.
struct LayerNormWeights {
  View<const float, 1> weight;
  View<const float, 1> bias;
  float eps = 0.0F;
};

/// out and x [rows, n] (may be the same).
void layer_norm(Context& ctx, Rows out, ConstRows x, const LayerNormWeights& norm);
/// The slot of the CPU tables.
void layer_norm_cpu(Context& ctx, Rows out, ConstRows x, const LayerNormWeights& norm);

}  // namespace comet
