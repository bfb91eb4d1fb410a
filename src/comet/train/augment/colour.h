// Point operations of RandAugment on 8-bit RGB, in Pillow's arithmetic (ImageOps, ImageEnhance).
// Callers: rand_augment. All work in place.
#pragma once

#include "comet/io/image/image.h"

namespace comet::train {

/// Each colour stretched to the full range.
void auto_contrast(io::Image& image);
/// Each colour's histogram flattened.
void equalize(io::Image& image);
void invert(io::Image& image);
/// The upper `bits` (0 to 8) of each byte are kept.
void posterize(io::Image& image, int bits);
/// Bytes of at least `threshold` are inverted.
void solarize(io::Image& image, int threshold);
/// Bytes below 128 grow by `added`.
void solarize_add(io::Image& image, int added);
/// Blends: factor 0 is grey, black, the mean grey or smoothed; 1 changes nothing; above 1, more.
void enhance_colour(io::Image& image, float factor);
void enhance_brightness(io::Image& image, float factor);
void enhance_contrast(io::Image& image, float factor);
void enhance_sharpness(io::Image& image, float factor);

}  // namespace comet::train
