#include "comet/ops/average_pool/average_pool_backward.h"

#include "comet/ops/op_table.h"
#include "comet/ops/parallel_rows.h"

namespace comet {

void average_pool_backward(Context& ctx, Images dx, ConstRows dy) {
  COMET_CHECK(dy.num_rows == dx.num_images && dy.num_columns == dx.channels && dx.height > 0 &&
                  dx.width > 0,
              "dy [{}, {}], dx [{}, {}, {}, {}]", dy.num_rows, dy.num_columns, dx.num_images,
              dx.height, dx.width, dx.channels);
  COMET_CHECK(ctx.ops.average_pool_backward != nullptr,
              "average_pool_backward has no kernel on this device");
  ctx.ops.average_pool_backward(ctx, dx, dy);
}

void average_pool_backward_cpu(Context& ctx, Images images, ConstRows pooled) {
  const View<float, 4> dx = images.f32();
  const View<const float, 2> dy = pooled.f32();
  const int64_t num_pixels = images.height * images.width;
  const auto count = static_cast<float>(num_pixels);
  parallel_rows(ctx, images.num_images, num_pixels * images.channels, [&](int64_t i) {
    float* to = dx.row(i);
    for (int64_t pixel = 0; pixel < num_pixels; ++pixel) {
      for (int64_t c = 0; c < images.channels; ++c) *to++ = dy.row(i)[c] / count;
    }
  });
}

}  // namespace comet
