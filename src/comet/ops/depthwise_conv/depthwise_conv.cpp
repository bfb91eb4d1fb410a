#include "comet/ops/depthwise_conv/depthwise_conv.h"

#include "comet/ops/depthwise_conv/depthwise_rows.h"
#include "comet/ops/op_table.h"
#include "comet/ops/parallel_rows.h"

namespace comet {

void check_images(const View<float, 4>& out, const View<const float, 4>& x) {
  const View<const float, 4> contiguous(x.data, x.sizes);
  COMET_CHECK(out.sizes == x.sizes, "out [{}, {}, {}, {}], x [{}, {}, {}, {}]", out.size(0),
              out.size(1), out.size(2), out.size(3), x.size(0), x.size(1), x.size(2), x.size(3));
  COMET_CHECK(x.strides == contiguous.strides && out.strides == contiguous.strides,
              "images are not contiguous");
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

void depthwise_conv(Context& ctx, View<float, 4> out, View<const float, 4> x,
                    const DepthwiseWeights& weights) {
  check_images(out, x);
  check_depthwise(weights, x.size(3));
  COMET_CHECK(ctx.ops.depthwise_conv != nullptr, "depthwise_conv has no kernel on this device");
  ctx.ops.depthwise_conv(ctx, out, x, weights);
}

void depthwise_conv_cpu(Context& ctx, View<float, 4> out, View<const float, 4> x,
                        const DepthwiseWeights& weights) {
  const int64_t height = x.size(1);
  const int64_t taps = weights.weight.size(0) * weights.weight.size(1);
  parallel_rows(ctx, x.size(0) * height, x.size(2) * x.size(3) * taps,
                [&](int64_t i) { ctx.ops.depthwise_row(depthwise_row_of(out, x, weights, 0, i)); });
}

}  // namespace comet
