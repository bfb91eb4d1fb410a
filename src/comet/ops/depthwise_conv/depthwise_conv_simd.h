// One row of a depthwise convolution; compiled once per instruction set (row_ops_<isa>.cpp).
// Vectors run over channels. A sum begins with the bias and takes its taps in rows of the kernel,
// whatever the pixel's place, so that equal neighbourhoods give equal bits.
#pragma once

#include "comet/device/cpu/simd.h"
#include "comet/ops/row_ops.h"

namespace comet {
namespace {

/// Pixels [px, px + P) of the row, channels [channel, channel + num), num ≤ kLanes; Whole: num =
/// kLanes. With P > 1 all taps in the row's direction lie inside the image.
template <int P, bool Whole>
inline void depthwise_pixels(const DepthwiseRow& row, int64_t px, int64_t channel, int64_t num) {
  const auto load = [num](const float* p) {
    if constexpr (Whole) return simd::load(p);
    return simd::load_partial(p, num);
  };
  const int64_t pad_h = row.kernel_h / 2;
  const int64_t left = px - row.kernel_w / 2;
  const int64_t tap_begin = left < 0 ? -left : 0;
  const int64_t over = left + row.kernel_w - row.width;
  const int64_t tap_end = P == 1 && over > 0 ? row.kernel_w - over : row.kernel_w;
  simd::F32 acc[P];
  for (int p = 0; p < P; ++p) acc[p] = load(row.bias + channel);
  for (int64_t ky = 0; ky < row.kernel_h; ++ky) {
    const int64_t y = row.y + ky - pad_h;
    if (y < 0 || y >= row.height) continue;
    const float* x = row.x + (y * row.width + left) * row.pixel_stride + channel;
    const float* weight = row.weight + ky * row.kernel_w * row.channels + channel;
    for (int64_t kx = tap_begin; kx < tap_end; ++kx) {
      const simd::F32 w = load(weight + kx * row.channels);
      for (int p = 0; p < P; ++p) {
        acc[p] = simd::fma(w, load(x + (kx + p) * row.pixel_stride), acc[p]);
      }
    }
  }
  for (int p = 0; p < P; ++p) {
    float* out = row.out + (px + p) * row.pixel_stride + channel;
    if constexpr (Whole) {
      simd::store(out, acc[p]);
    } else {
      simd::store_partial(out, acc[p], num);
    }
  }
}

template <bool Whole>
inline void depthwise_channels(const DepthwiseRow& row, int64_t channel, int64_t num) {
  constexpr int kPixels = 4;  // share one load of the weights
  const int64_t pad = row.kernel_w / 2;
  for (int64_t px = 0; px < row.width;) {
    if (px >= pad && px + kPixels + pad <= row.width) {
      depthwise_pixels<kPixels, Whole>(row, px, channel, num);
      px += kPixels;
    } else {
      depthwise_pixels<1, Whole>(row, px, channel, num);
      ++px;
    }
  }
}

inline void depthwise_row(const DepthwiseRow& row) {
  using simd::kLanes;
  int64_t channel = 0;
  for (; channel + kLanes <= row.channels; channel += kLanes) {
    depthwise_channels<true>(row, channel, kLanes);
  }
  if (channel < row.channels) depthwise_channels<false>(row, channel, row.channels - channel);
}

}  // namespace
}  // namespace comet
