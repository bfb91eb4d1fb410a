// Gradients of layer_norm; mean and variance are computed again from x. Callers: nn.
#pragma once

#include "comet/ops/layer_norm/layer_norm.h"

namespace comet {

/// Of the weight and the bias of a norm, [n] each, FP32 on every device. Also for batch_norm.
struct NormGrads {
  View<float, 1> weight;
  View<float, 1> bias;
};

/// dx (may be dy) = what dy is of x, `grads` += those of weight and bias; all [rows, n]. The same
/// bits whatever the number of threads.
void layer_norm_backward(Context& ctx, Rows dx, const NormGrads& grads, ConstRows dy, ConstRows x,
                         const LayerNormWeights& norm);
/// The slot of the CPU tables.
void layer_norm_backward_cpu(Context& ctx, Rows dx, const NormGrads& grads, ConstRows dy,
                             ConstRows x, const LayerNormWeights& norm);

}  // namespace comet
