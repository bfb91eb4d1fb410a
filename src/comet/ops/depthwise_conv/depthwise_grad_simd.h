// What one row of dy adds to the gradients of a depthwise convolution's weights; compiled once per
// instruction set (training_rows_<isa>.cpp). Vectors run over channels; a tap's sum runs along the
// row and is added to the gradient once.
#pragma once

#include "comet/device/cpu/simd.h"
#include "comet/ops/training_rows.h"

namespace comet {
namespace {

/// Σ dy[px] · x[px + shift] over the pixels of the row for which both are inside; x may be nullptr:
/// Σ dy[px]. num ≤ kLanes channels; Whole: num = kLanes.
template <bool Whole>
inline void add_tap(const DepthwiseGradRow& row, const float* dy, const float* x, int64_t shift,
                    float* sum, int64_t num) {
  const auto load = [num](const float* p) {
    if constexpr (Whole) return simd::load(p);
    return simd::load_partial(p, num);
  };
  const int64_t begin = shift < 0 ? -shift : 0;
  const int64_t end = shift > 0 ? row.width - shift : row.width;
  const int64_t stride = row.pixel_stride;
  simd::F32 sums[2] = {simd::splat(0.0F), simd::splat(0.0F)};
  const auto add = [&](simd::F32& acc, int64_t px) {
    const simd::F32 grad = load(dy + px * stride);
    acc =
        x == nullptr ? simd::add(acc, grad) : simd::fma(grad, load(x + (px + shift) * stride), acc);
  };
  int64_t px = begin;
  for (; px + 2 <= end; px += 2) {
    add(sums[0], px);
    add(sums[1], px + 1);
  }
  if (px < end) add(sums[0], px);
  const simd::F32 total = simd::add(load(sum), simd::add(sums[0], sums[1]));
  if constexpr (Whole) {
    simd::store(sum, total);
  } else {
    simd::store_partial(sum, total, num);
  }
}

template <bool Whole>
inline void depthwise_grad_channels(const DepthwiseGradRow& row, int64_t channel, int64_t num) {
  const float* dy = row.dy + channel;
  add_tap<Whole>(row, dy, nullptr, 0, row.dbias + channel, num);
  for (int64_t ky = 0; ky < row.kernel_h; ++ky) {
    const int64_t y = row.y + ky - row.kernel_h / 2;
    if (y < 0 || y >= row.height) continue;
    const float* x = row.x + y * row.width * row.pixel_stride + channel;
    float* dweight = row.dweight + ky * row.kernel_w * row.channels + channel;
    for (int64_t kx = 0; kx < row.kernel_w; ++kx) {
      add_tap<Whole>(row, dy, x, kx - row.kernel_w / 2, dweight + kx * row.channels, num);
    }
  }
}

inline void depthwise_grad_row(const DepthwiseGradRow& row) {
  using simd::kLanes;
  int64_t channel = 0;
  for (; channel + kLanes <= row.channels; channel += kLanes) {
    depthwise_grad_channels<true>(row, channel, kLanes);
  }
  if (channel < row.channels) {
    depthwise_grad_channels<false>(row, channel, row.channels - channel);
  }
}

}  // namespace
}  // namespace comet
