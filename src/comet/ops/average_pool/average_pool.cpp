#include "comet/ops/average_pool/average_pool.h"

#include <algorithm>

#include "comet/ops/op_table.h"
#include "comet/ops/parallel_rows.h"

namespace comet {

void average_pool(Context& ctx, Rows out, ConstImages x) {
  COMET_CHECK(
      out.num_rows == x.num_images && out.num_columns == x.channels && x.height > 0 && x.width > 0,
      "out [{}, {}], x [{}, {}, {}, {}]", out.num_rows, out.num_columns, x.num_images, x.height,
      x.width, x.channels);
  COMET_CHECK(ctx.ops.average_pool != nullptr, "average_pool has no kernel on this device");
  ctx.ops.average_pool(ctx, out, x);
}

void average_pool_cpu(Context& ctx, Rows pooled, ConstImages images) {
  const View<float, 2> out = pooled.f32();
  const View<const float, 4> x = images.f32();
  const int64_t num_pixels = x.size(1) * x.size(2);
  const int64_t channels = x.size(3);
  parallel_rows(ctx, x.size(0), num_pixels * channels, [&](int64_t i) {
    float* sums = out.row(i);
    std::fill_n(sums, channels, 0.0F);
    for (int64_t pixel = 0; pixel < num_pixels; ++pixel) {
      ctx.ops.add_row(sums, x.row(i) + pixel * channels, channels);
    }
    const float count = static_cast<float>(num_pixels);
    for (int64_t c = 0; c < channels; ++c) sums[c] /= count;
  });
}

}  // namespace comet
