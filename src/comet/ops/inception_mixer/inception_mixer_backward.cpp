#include "comet/ops/inception_mixer/inception_mixer_backward.h"

#include <array>

#include "comet/ops/depthwise_conv/depthwise_backward_rows.h"
#include "comet/ops/op_table.h"
#include "comet/ops/parallel_rows.h"

namespace comet {
namespace {

std::array<DepthwisePart, 3> parts_of(const InceptionGrads& grads, const InceptionWeights& weights,
                                      int64_t channels) {
  const int64_t branch = weights.square.bias.size(0);
  return {DepthwisePart{&weights.square, &grads.square, channels - 3 * branch},
          DepthwisePart{&weights.band_w, &grads.band_w, channels - 2 * branch},
          DepthwisePart{&weights.band_h, &grads.band_h, channels - branch}};
}

}  // namespace

void inception_mixer_backward(Context& ctx, Images dx, const InceptionGrads& grads, ConstImages dy,
                              ConstImages x, const InceptionWeights& weights) {
  check_images(dx, x);
  check_images(dy, x);
  COMET_CHECK(dx.data != dy.data && dx.data != x.data, "dx lies where dy or x does");
  const int64_t branch = weights.square.bias.size(0);
  COMET_CHECK(3 * branch <= x.channels, "three branches of {} channels in {}", branch, x.channels);
  for (const DepthwisePart& part : parts_of(grads, weights, x.channels)) {
    check_depthwise(*part.weights, branch);
    check_depthwise_grads(*part.grads, *part.weights);
  }
  COMET_CHECK(ctx.ops.inception_mixer_backward != nullptr,
              "inception_mixer_backward has no kernel on this device");
  ctx.ops.inception_mixer_backward(ctx, dx, grads, dy, x, weights);
}

void inception_mixer_backward_cpu(Context& ctx, Images dx, const InceptionGrads& grads,
                                  ConstImages dy, ConstImages x, const InceptionWeights& weights) {
  const int64_t num_kept = x.channels - 3 * weights.square.bias.size(0);
  const View<float, 2> sums(dx.f32().data, {x.num_pixels(), x.channels});
  const View<const float, 2> from = dy.rows().f32();
  parallel_rows(ctx, x.num_pixels(), num_kept,
                [&](int64_t i) { ctx.ops.add_row(sums.row(i), from.row(i), num_kept); });
  depthwise_parts_backward(ctx, dx.f32(), dy.f32(), x.f32(), parts_of(grads, weights, x.channels));
}

}  // namespace comet
