// Gradients of depthwise_conv. Callers: nn, inception_mixer.
#pragma once

#include "comet/ops/depthwise_conv/depthwise_conv.h"

namespace comet {

/// FP32 on every device, laid as the weights are: weight [kernel_h, kernel_w, channels], bias
/// [channels].
struct DepthwiseGrads {
  View<float, 3> weight;
  View<float, 1> bias;
};

/// dx += what dy is of x (the shortcut around the operator has its gradient there already), `grads`
/// += those of the weights. dx, dy and x have one shape and type and are not the same. The same
/// bits whatever the number of threads.
void depthwise_conv_backward(Context& ctx, Images dx, const DepthwiseGrads& grads, ConstImages dy,
                             ConstImages x, const DepthwiseWeights& weights);
/// The slot of the CPU tables.
void depthwise_conv_backward_cpu(Context& ctx, Images dx, const DepthwiseGrads& grads,
                                 ConstImages dy, ConstImages x, const DepthwiseWeights& weights);

/// Gradients laid as `weights` are. Also for inception_mixer_backward.
void check_depthwise_grads(const DepthwiseGrads& grads, const DepthwiseWeights& weights);

}  // namespace comet
