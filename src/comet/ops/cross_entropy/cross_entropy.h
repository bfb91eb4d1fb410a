// Softmax cross entropy against soft targets, loss and gradient in one pass. Callers: train.
#pragma once

#include "comet/ops/context.h"
#include "comet/tensor/rows.h"

namespace comet {

/// losses [rows] = −Σ target · log softmax(logits); dlogits (may be logits) = scale · (Σ target ·
/// softmax − target). targets [rows, classes], FP32; scale is 1 / rows of the whole step.
void cross_entropy(Context& ctx, View<float, 1> losses, Rows dlogits, ConstRows logits,
                   View<const float, 2> targets, float scale);
/// The slot of the CPU tables.
void cross_entropy_cpu(Context& ctx, View<float, 1> losses, Rows dlogits, ConstRows logits,
                       View<const float, 2> targets, float scale);

}  // namespace comet
