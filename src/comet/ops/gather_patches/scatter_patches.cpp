#include "comet/ops/gather_patches/scatter_patches.h"

#include <algorithm>

#include "comet/ops/gather_patches/gather_patches.h"
#include "comet/ops/op_table.h"
#include "comet/ops/parallel_rows.h"

namespace comet {

void scatter_patches(Context& ctx, Images dx, ConstRows dy, int64_t size) {
  check_patches(dy, dx, size);
  COMET_CHECK(ctx.ops.scatter_patches != nullptr, "scatter_patches has no kernel on this device");
  ctx.ops.scatter_patches(ctx, dx, dy, size);
}

void scatter_patches_cpu(Context& ctx, Images images, ConstRows patches, int64_t size) {
  const View<float, 4> dx = images.f32();
  const View<const float, 2> dy = patches.f32();
  const int64_t out_height = images.height / size;
  const int64_t out_width = images.width / size;
  const int64_t run = size * images.channels;  // pixels of a patch that lie side by side
  const int64_t row_elements = images.width * images.channels;
  parallel_rows(ctx, images.num_images * images.height, row_elements, [&](int64_t i) {
    const int64_t y = i % images.height;
    float* to = dx.data + i * row_elements;
    if (y / size >= out_height) {
      std::fill_n(to, row_elements, 0.0F);
      return;
    }
    const int64_t first_patch = (i / images.height * out_height + y / size) * out_width;
    for (int64_t px = 0; px < out_width; ++px) {
      std::copy_n(dy.row(first_patch + px) + y % size * run, run, to + px * run);
    }
    std::fill(to + out_width * run, to + row_elements, 0.0F);
  });
}

}  // namespace comet
