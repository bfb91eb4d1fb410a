// Global average pooling of NHWC images: the mean of every channel over all pixels.
#pragma once

#include "comet/ops/context.h"
#include "comet/tensor/view.h"

namespace comet {

/// out [images, channels]; x [images, pixels, channels], contiguous, at least one pixel.
void average_pool(Context& ctx, View<float, 2> out, View<const float, 3> x);
/// The slot of the CPU tables.
void average_pool_cpu(Context& ctx, View<float, 2> out, View<const float, 3> x);

}  // namespace comet
