// Depthwise convolution of NHWC images, stride 1, zero padding that keeps the size: every channel
// has a kernel of its own. Callers: nn. Kernel sizes are odd.
#pragma once

#include "comet/ops/context.h"
#include "comet/tensor/images.h"

namespace comet {

/// weight [kernel_h, kernel_w, channels], channels fastest; bias [channels].
struct DepthwiseWeights {
  View<const float, 3> weight;
  View<const float, 1> bias;
};

/// out and x [images, height, width, channels] of one type, not the same.
void depthwise_conv(Context& ctx, Images out, ConstImages x, const DepthwiseWeights& weights);
/// The slot of the CPU tables.
void depthwise_conv_cpu(Context& ctx, Images out, ConstImages x, const DepthwiseWeights& weights);

/// out and x have one shape and type. Also for inception_mixer.
void check_images(const ConstImages& out, const ConstImages& x);
/// Kernels of odd size for `channels` channels. Also for inception_mixer.
void check_depthwise(const DepthwiseWeights& weights, int64_t channels);

}  // namespace comet
