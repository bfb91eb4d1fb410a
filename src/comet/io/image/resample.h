// Resizing with antialiasing, in Pillow's 8-bit arithmetic to the bit: two passes, columns first,
// weights in fixed point with 22 bits, each pass rounded to bytes. Callers: preprocessing, the
// training augmentations. Only the window that is asked for is computed, so a thin image enlarged
// to a huge one costs no more than the window.
#pragma once

#include "comet/io/image/image.h"

namespace comet::io {

enum class Filter { kBilinear, kBicubic };  // bicubic with a = −1/2

/// A rectangle of pixels.
struct PixelBox {
  int64_t left = 0;
  int64_t top = 0;
  int64_t width = 0;
  int64_t height = 0;
};

/// The pixels `window` of `box` of the image resized to width × height. `box` lies in the image,
/// and its surroundings are not looked at; `window` lies in the result.
Image resample(const Image& image, const PixelBox& box, int64_t width, int64_t height,
               const PixelBox& window, Filter filter);

/// The whole image resized.
Image resize(const Image& image, int64_t width, int64_t height, Filter filter);

/// box.width × box.height pixels; what lies outside the image is black.
Image crop(const Image& image, const PixelBox& box);

}  // namespace comet::io
