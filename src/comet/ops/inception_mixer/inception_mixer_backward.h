// Gradients of inception_mixer in one pass over x and dy. Callers: nn.
#pragma once

#include "comet/ops/depthwise_conv/depthwise_conv_backward.h"
#include "comet/ops/inception_mixer/inception_mixer.h"

namespace comet {

struct InceptionGrads {
  DepthwiseGrads square;
  DepthwiseGrads band_w;
  DepthwiseGrads band_h;
};

/// dx += what dy is of x (the shortcut around the operator has its gradient there already), `grads`
/// += those of the weights. dx, dy and x have one shape and type and are not the same. The same
/// bits whatever the number of threads.
void inception_mixer_backward(Context& ctx, Images dx, const InceptionGrads& grads, ConstImages dy,
                              ConstImages x, const InceptionWeights& weights);
/// The slot of the CPU tables.
void inception_mixer_backward_cpu(Context& ctx, Images dx, const InceptionGrads& grads,
                                  ConstImages dy, ConstImages x, const InceptionWeights& weights);

}  // namespace comet
