// Affine maps of 8-bit RGB images, in Pillow's arithmetic (Image.transform). Callers: rand_augment.
#pragma once

#include <array>

#include "comet/io/image/resample.h"

namespace comet::train {

/// Where the result's pixel (x, y) lies in the source: (m[0]·x + m[1]·y + m[2],
/// m[3]·x + m[4]·y + m[5]), measured at the pixels' centres.
using AffineMatrix = std::array<double, 6>;

/// An image of the same size; where the source ends it is `fill`. Bicubic with a = −1.
io::Image transformed(const io::Image& image, const AffineMatrix& matrix, io::Filter filter,
                      const std::array<uint8_t, 3>& fill);

/// Counter-clockwise about the centre.
AffineMatrix rotation(double degrees, int64_t width, int64_t height);

}  // namespace comet::train
