// Patches of NHWC images as rows, for convolutions whose stride is their kernel's size: a product
// with weights [out channels, size · size · channels] is the convolution.
#pragma once

#include "comet/ops/context.h"
#include "comet/tensor/images.h"

namespace comet {

/// out [images · (height / size) · (width / size), size · size · channels]; x [images, height,
/// width, channels]; a GPU converts between their types. What remains at the right and the lower
/// edge is left out, as a convolution without padding does.
void gather_patches(Context& ctx, Rows out, ConstImages x, int64_t size);
/// The slot of the CPU tables.
void gather_patches_cpu(Context& ctx, Rows out, ConstImages x, int64_t size);

/// One row per patch. Also for scatter_patches.
void check_patches(const ConstRows& patches, const ConstImages& images, int64_t size);

}  // namespace comet
