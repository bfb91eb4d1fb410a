#include "comet/ops/average_pool/average_pool.h"

#include <algorithm>

#include "comet/ops/op_table.h"
#include "comet/ops/parallel_rows.h"

namespace comet {

void average_pool(Context& ctx, View<float, 2> out, View<const float, 3> x) {
  COMET_CHECK(out.size(0) == x.size(0) && out.size(1) == x.size(2) && x.size(1) > 0,
              "out [{}, {}], x [{}, {}, {}]", out.size(0), out.size(1), x.size(0), x.size(1),
              x.size(2));
  COMET_CHECK(out.strides[1] == 1 && x.strides == (View<const float, 3>(x.data, x.sizes).strides),
              "images are not contiguous");
  COMET_CHECK(ctx.ops.average_pool != nullptr, "average_pool has no kernel on this device");
  ctx.ops.average_pool(ctx, out, x);
}

void average_pool_cpu(Context& ctx, View<float, 2> out, View<const float, 3> x) {
  const int64_t num_pixels = x.size(1);
  const int64_t channels = x.size(2);
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
