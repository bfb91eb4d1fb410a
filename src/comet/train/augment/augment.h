// What training shows the network of an image: a random part resized, mirrored, changed by
// RandAugment, partly erased; timm's training transform with 8-bit pixels. Callers: train/data.
// Everything is a function of the image and of the Rng, which the caller seeds by (seed, epoch,
// index).
#pragma once

#include <optional>

#include "comet/io/image/preprocessing.h"
#include "comet/train/augment/rand_augment.h"

namespace comet::train {

struct AugmentSettings {
  int64_t image_size = 224;
  double scale_low = 0.08;  // of the image's area
  double scale_high = 1.0;
  double ratio_low = 3.0 / 4.0;  // width over height
  double ratio_high = 4.0 / 3.0;
  std::optional<io::Filter> filter;  // absent: bilinear or bicubic by lot
  double flip_probability = 0.5;
  std::optional<RandAugment> rand_augment;
  double erase_probability = 0;
  io::Normalization normalization;  // of the noise in erased parts
};

io::Image augment(const io::Image& image, const AugmentSettings& settings, Rng& rng);

/// The steps, in order. The part of a width × height image that RandomResizedCrop takes:
io::PixelBox random_part(int64_t width, int64_t height, const AugmentSettings& settings, Rng& rng);
void mirror(io::Image& image);
/// A box of 2 % to a third of the area, filled with normal noise, cut off at black and white (timm
/// erases normalized values, which are not).
void random_erase(io::Image& image, const AugmentSettings& settings, Rng& rng);

}  // namespace comet::train
