#include "comet/ops/gather_patches/gather_patches.h"

#include <algorithm>

#include "comet/ops/op_table.h"
#include "comet/ops/parallel_rows.h"

namespace comet {

void check_patches(const ConstRows& patches, const ConstImages& images, int64_t size) {
  COMET_CHECK(size >= 1, "patches of {} pixels", size);
  COMET_CHECK(
      patches.num_rows == images.num_images * (images.height / size) * (images.width / size) &&
          patches.num_columns == size * size * images.channels,
      "patches {} [{}, {}] of {} x {} pixels, images {} [{}, {}, {}, {}]",
      dtype_name(patches.dtype), patches.num_rows, patches.num_columns, size, size,
      dtype_name(images.dtype), images.num_images, images.height, images.width, images.channels);
}

void gather_patches(Context& ctx, Rows out, ConstImages x, int64_t size) {
  check_patches(out, x, size);
  COMET_CHECK(ctx.ops.gather_patches != nullptr, "gather_patches has no kernel on this device");
  ctx.ops.gather_patches(ctx, out, x, size);
}

void gather_patches_cpu(Context& ctx, Rows patches, ConstImages images, int64_t size) {
  const View<float, 2> out = patches.f32();
  const View<const float, 4> x = images.f32();
  const int64_t out_height = x.size(1) / size;
  const int64_t out_width = x.size(2) / size;
  const int64_t run = size * x.size(3);  // pixels of a patch that lie side by side
  parallel_rows(ctx, x.size(0) * out_height, out_width * size * run, [&](int64_t i) {
    const float* corner =
        x.data + (i / out_height) * x.strides[0] + (i % out_height) * size * x.strides[1];
    for (int64_t px = 0; px < out_width; ++px) {
      float* patch = out.row(i * out_width + px);
      for (int64_t y = 0; y < size; ++y) {
        std::copy_n(corner + y * x.strides[1] + px * run, run, patch + y * run);
      }
    }
  });
}

}  // namespace comet
