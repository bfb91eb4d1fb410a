#include "comet/ops/inception_mixer/inception_mixer.h"

#include <algorithm>

#include "comet/ops/depthwise_conv/depthwise_rows.h"
#include "comet/ops/op_table.h"
#include "comet/ops/parallel_rows.h"

namespace comet {

void inception_mixer(Context& ctx, Images out, ConstImages x, const InceptionWeights& weights) {
  check_images(out, x);
  const int64_t branch = weights.square.bias.size(0);
  COMET_CHECK(3 * branch <= x.channels, "three branches of {} channels in {}", branch, x.channels);
  for (const DepthwiseWeights* part : {&weights.square, &weights.band_w, &weights.band_h}) {
    check_depthwise(*part, branch);
  }
  COMET_CHECK(ctx.ops.inception_mixer != nullptr, "inception_mixer has no kernel on this device");
  ctx.ops.inception_mixer(ctx, out, x, weights);
}

void inception_mixer_cpu(Context& ctx, Images out_images, ConstImages images,
                         const InceptionWeights& weights) {
  const View<float, 4> out = out_images.f32();
  const View<const float, 4> x = images.f32();
  const int64_t width = x.size(2);
  const int64_t channels = x.size(3);
  const int64_t branch = weights.square.bias.size(0);
  const int64_t num_kept = channels - 3 * branch;
  parallel_rows(ctx, x.size(0) * x.size(1), width * channels, [&](int64_t i) {
    const float* from = x.data + i * x.strides[1];
    float* to = out.data + i * out.strides[1];
    for (int64_t px = 0; px < width; ++px) {
      std::copy_n(from + px * channels, num_kept, to + px * channels);
    }
    int64_t channel = num_kept;
    for (const DepthwiseWeights* part : {&weights.square, &weights.band_w, &weights.band_h}) {
      ctx.ops.depthwise_row(depthwise_row_of(out, x, *part, channel, i));
      channel += branch;
    }
  });
}

}  // namespace comet
