#include "comet/ops/depthwise_conv/depthwise_conv.h"

#include "comet/ops/depthwise_conv/depthwise_rows.h"
#include "comet/ops/op_table.h"
#include "comet/ops/parallel_rows.h"

namespace comet {

void check_images(const ConstImages& out, const ConstImages& x) {
  COMET_CHECK(out.same_shape(x) && out.dtype == x.dtype,
              "out {} [{}, {}, {}, {}], x {} [{}, {}, {}, {}]", dtype_name(out.dtype),
              out.num_images, out.height, out.width, out.channels, dtype_name(x.dtype),
              x.num_images, x.height, x.width, x.channels);
}

void check_depthwise(const DepthwiseWeights& weights, int64_t channels) {
  const View<const float, 3>& w = weights.weight;
  COMET_CHECK(w.size(2) == channels && weights.bias.size(0) == channels && w.size(0) % 2 == 1 &&
                  w.size(1) % 2 == 1,
              "kernels [{}, {}, {}] with {} biases for {} channels", w.size(0), w.size(1),
              w.size(2), weights.bias.size(0), channels);
  COMET_CHECK(w.strides[2] == 1 && w.strides[1] == channels &&
                  w.strides[0] == channels * w.size(1) && weights.bias.strides[0] == 1,
              "kernels are not contiguous");
}

void depthwise_conv(Context& ctx, Images out, ConstImages x, const DepthwiseWeights& weights) {
  check_images(out, x);
  check_depthwise(weights, x.channels);
  COMET_CHECK(ctx.ops.depthwise_conv != nullptr, "depthwise_conv has no kernel on this device");
  ctx.ops.depthwise_conv(ctx, out, x, weights);
}

void depthwise_conv_cpu(Context& ctx, Images out_images, ConstImages images,
                        const DepthwiseWeights& weights) {
  const View<float, 4> out = out_images.f32();
  const View<const float, 4> x = images.f32();
  const int64_t height = x.size(1);
  const int64_t taps = weights.weight.size(0) * weights.weight.size(1);
  parallel_rows(ctx, x.size(0) * height, x.size(2) * x.size(3) * taps,
                [&](int64_t i) { ctx.ops.depthwise_row(depthwise_row_of(out, x, weights, 0, i)); });
}

}  // namespace comet
