// Global average pooling of NHWC images: the mean of every channel over all pixels.
#pragma once

#include "comet/ops/context.h"
#include "comet/tensor/images.h"

namespace comet {

/// out [images, channels]; x [images, height, width, channels] of one type, at least one pixel.
void average_pool(Context& ctx, Rows out, ConstImages x);
/// The slot of the CPU tables.
void average_pool_cpu(Context& ctx, Rows out, ConstImages x);

}  // namespace comet
