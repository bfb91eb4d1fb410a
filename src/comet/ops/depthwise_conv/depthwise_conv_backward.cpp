#include "comet/ops/depthwise_conv/depthwise_conv_backward.h"

#include "comet/ops/depthwise_conv/depthwise_backward_rows.h"
#include "comet/ops/op_table.h"

namespace comet {

void check_depthwise_grads(const DepthwiseGrads& grads, const DepthwiseWeights& weights) {
  COMET_CHECK(grads.weight.sizes == weights.weight.sizes &&
                  grads.weight.strides == weights.weight.strides &&
                  grads.bias.sizes == weights.bias.sizes && grads.bias.strides[0] == 1,
              "gradients [{}, {}, {}] of kernels [{}, {}, {}]", grads.weight.size(0),
              grads.weight.size(1), grads.weight.size(2), weights.weight.size(0),
              weights.weight.size(1), weights.weight.size(2));
}

void depthwise_conv_backward(Context& ctx, Images dx, const DepthwiseGrads& grads, ConstImages dy,
                             ConstImages x, const DepthwiseWeights& weights) {
  check_images(dx, x);
  check_images(dy, x);
  COMET_CHECK(dx.data != dy.data && dx.data != x.data, "dx lies where dy or x does");
  check_depthwise(weights, x.channels);
  check_depthwise_grads(grads, weights);
  COMET_CHECK(ctx.ops.depthwise_conv_backward != nullptr,
              "depthwise_conv_backward has no kernel on this device");
  ctx.ops.depthwise_conv_backward(ctx, dx, grads, dy, x, weights);
}

void depthwise_conv_backward_cpu(Context& ctx, Images dx, const DepthwiseGrads& grads,
                                 ConstImages dy, ConstImages x, const DepthwiseWeights& weights) {
  const DepthwisePart part{&weights, &grads, 0};
  depthwise_parts_backward(ctx, dx.f32(), dy.f32(), x.f32(), std::span(&part, 1));
}

}  // namespace comet
