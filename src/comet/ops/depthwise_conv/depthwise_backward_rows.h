// The backward pass of depthwise convolutions on parts of the channels, on the CPU. Callers:
// depthwise_conv_backward, inception_mixer_backward.
#pragma once

#include <span>

#include "comet/ops/depthwise_conv/depthwise_conv_backward.h"

namespace comet {

/// Channels [first_channel, …) have these kernels; channels of no part are not touched.
struct DepthwisePart {
  const DepthwiseWeights* weights;
  const DepthwiseGrads* grads;
  int64_t first_channel;
};

/// dx += of the parts' channels, and their gradients.
void depthwise_parts_backward(Context& ctx, View<float, 4> dx, View<const float, 4> dy,
                              View<const float, 4> x, std::span<const DepthwisePart> parts);

}  // namespace comet
