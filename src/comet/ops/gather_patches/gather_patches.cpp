#include "comet/ops/gather_patches/gather_patches.h"

#include <algorithm>

#include "comet/ops/op_table.h"
#include "comet/ops/parallel_rows.h"

namespace comet {

void gather_patches(Context& ctx, View<float, 2> out, View<const float, 4> x, int64_t size) {
  COMET_CHECK(size >= 1, "patches of {} pixels", size);
  COMET_CHECK(out.size(0) == x.size(0) * (x.size(1) / size) * (x.size(2) / size) &&
                  out.size(1) == size * size * x.size(3) && out.strides[1] == 1,
              "out [{}, {}], x [{}, {}, {}, {}], patches of {}", out.size(0), out.size(1),
              x.size(0), x.size(1), x.size(2), x.size(3), size);
  COMET_CHECK(x.strides == (View<const float, 4>(x.data, x.sizes).strides),
              "images are not contiguous");
  COMET_CHECK(ctx.ops.gather_patches != nullptr, "gather_patches has no kernel on this device");
  ctx.ops.gather_patches(ctx, out, x, size);
}

void gather_patches_cpu(Context& ctx, View<float, 2> out, View<const float, 4> x, int64_t size) {
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
