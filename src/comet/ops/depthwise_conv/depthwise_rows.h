// How operators over NHWC images address one row of them for RowOps::depthwise_row. Callers:
// depthwise_conv, inception_mixer.
#pragma once

#include "comet/ops/depthwise_conv/depthwise_conv.h"
#include "comet/ops/row_ops.h"

namespace comet {

/// Row `row_idx` of [images · height], channels from `first_channel` on, as many as the weights
/// have.
inline DepthwiseRow depthwise_row_of(const View<float, 4>& out, const View<const float, 4>& x,
                                     const DepthwiseWeights& weights, int64_t first_channel,
                                     int64_t row_idx) {
  const int64_t image_idx = row_idx / x.size(1);
  DepthwiseRow row;
  row.out = out.data + row_idx * out.strides[1] + first_channel;
  row.x = x.data + image_idx * x.strides[0] + first_channel;
  row.weight = weights.weight.data;
  row.bias = weights.bias.data;
  row.height = x.size(1);
  row.width = x.size(2);
  row.pixel_stride = x.strides[2];
  row.y = row_idx % x.size(1);
  row.kernel_h = weights.weight.size(0);
  row.kernel_w = weights.weight.size(1);
  row.channels = weights.weight.size(2);
  return row;
}

}  // namespace comet
