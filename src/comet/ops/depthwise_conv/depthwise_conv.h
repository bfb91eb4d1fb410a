// Depthwise convolution of NHWC images, stride 1, zero padding that keeps the size: every channel
// has a kernel of its own. Callers: nn. Kernel sizes are odd.
#pragma once

#include "comet/ops/context.h"
#include "comet/tensor/view.h"

namespace comet {

/// weight [kernel_h, kernel_w, channels], channels fastest; bias [channels].
struct DepthwiseWeights {
  View<const float, 3> weight;
  View<const float, 1> bias;
};

/// out and x [images, height, width, channels], contiguous, not the same.
void depthwise_conv(Context& ctx, View<float, 4> out, View<const float, 4> x,
                    const DepthwiseWeights& weights);
/// The slot of the CPU tables.
void depthwise_conv_cpu(Context& ctx, View<float, 4> out, View<const float, 4> x,
                        const DepthwiseWeights& weights);

/// out and x have one shape and lie contiguously. Also for inception_mixer.
void check_images(const View<float, 4>& out, const View<const float, 4>& x);
/// Kernels of odd size for `channels` channels. Also for inception_mixer.
void check_depthwise(const DepthwiseWeights& weights, int64_t channels);

}  // namespace comet
