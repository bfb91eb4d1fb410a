// The gradient of average_pool: every pixel gets dy / pixels. Callers: nn.
#pragma once

#include "comet/ops/average_pool/average_pool.h"

namespace comet {

/// dx [images, height, width, channels], dy [images, channels].
void average_pool_backward(Context& ctx, Images dx, ConstRows dy);
/// The slot of the CPU tables.
void average_pool_backward_cpu(Context& ctx, Images dx, ConstRows dy);

}  // namespace comet
