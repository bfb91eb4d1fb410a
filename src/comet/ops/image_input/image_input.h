// From a batch of 8-bit images to a network's input in training: normalization, with mixup (Zhang
// et al. 2018) or CutMix (Yun et al. 2019) of every image with its opposite in the batch, as timm
// does. Callers: train.
#pragma once

#include <array>

#include "comet/ops/context.h"
#include "comet/tensor/images.h"

namespace comet {

/// out = (x / 255 − mean) / std of every colour, x of image i. With mixup x = share · xᵢ + (1 −
/// share) · x of image n − 1 − i; with CutMix the box [top, bottom) × [left, right) is of image
/// n − 1 − i and the rest of image i.
struct ImageInput {
  std::array<float, 3> mean{};
  std::array<float, 3> std{};
  float mixup_share = 1.0F;                          // 1: no mixup
  int64_t top = 0, bottom = 0, left = 0, right = 0;  // empty: no CutMix; never with mixup
};

/// pixels and out [images, height, width, 3]; out in FP32 or the device's product type.
void image_input(Context& ctx, Images out, View<const uint8_t, 4> pixels, const ImageInput& input);
/// The slot of the CPU tables.
void image_input_cpu(Context& ctx, Images out, View<const uint8_t, 4> pixels,
                     const ImageInput& input);

}  // namespace comet
