// Image: 8-bit RGB pixels, row by row, and how a JPEG or PNG file becomes one. Callers: the data
// loader (train), apps. Decoded values are Pillow's to the bit (as timm sees files): alpha is
// dropped, of 16 bits the high byte is kept, CMYK is read as Adobe writes it. Unlike timm, the EXIF
// orientation is applied unless the caller asks otherwise.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "comet/base/result.h"

namespace comet::io {

struct Image {
  int64_t width = 0;
  int64_t height = 0;
  std::vector<uint8_t> rgb;  // height × width × 3

  [[nodiscard]] const uint8_t* row(int64_t y) const { return rgb.data() + y * width * 3; }
  [[nodiscard]] uint8_t* row(int64_t y) { return rgb.data() + y * width * 3; }
};

constexpr int64_t kImageColours = 3;
/// Larger images are refused by their header, before memory is taken for pixels.
constexpr int64_t kMaxImagePixels = int64_t{1} << 27;
constexpr size_t kMaxImageFileBytes = size_t{256} << 20;

enum class Orientation { kApply, kIgnore };  // of EXIF

/// `name` (a path, mostly) opens every error message.
Result<Image> decode_image(std::string_view bytes, const std::string& name,
                           Orientation orientation = Orientation::kApply);
Result<Image> read_image(const std::string& path, Orientation orientation = Orientation::kApply);

/// The image as it should be seen, where `orientation` is EXIF's 1 to 8; other values change
/// nothing.
Image oriented(Image image, int orientation);

}  // namespace comet::io
