// The gradient of gather_patches: patches back to their places. Callers: nn.
#pragma once

#include "comet/ops/context.h"
#include "comet/tensor/images.h"

namespace comet {

/// dx [images, height, width, channels] of dy [images · (height / size) · (width / size), size ·
/// size · channels]; pixels that belong to no patch become 0.
void scatter_patches(Context& ctx, Images dx, ConstRows dy, int64_t size);
/// The slot of the CPU tables.
void scatter_patches_cpu(Context& ctx, Images dx, ConstRows dy, int64_t size);

}  // namespace comet
