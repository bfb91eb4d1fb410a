// The token mixer of InceptionNeXt (Yu et al. 2024) on NHWC images: of C channels the first C − 3g
// stay as they are, g each go through a depthwise 3×3, 1×k and k×1 convolution, in this order.
#pragma once

#include "comet/ops/depthwise_conv/depthwise_conv.h"

namespace comet {

/// Kernels of g channels each; `band_w` lies along a row, `band_h` along a column.
struct InceptionWeights {
  DepthwiseWeights square;
  DepthwiseWeights band_w;
  DepthwiseWeights band_h;
};

/// out and x [images, height, width, channels] of one type, not the same; x is read once.
void inception_mixer(Context& ctx, Images out, ConstImages x, const InceptionWeights& weights);
/// The slot of the CPU tables.
void inception_mixer_cpu(Context& ctx, Images out, ConstImages x, const InceptionWeights& weights);

}  // namespace comet
