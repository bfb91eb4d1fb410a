// The decoders behind image.h, one library each, and what their errors share. Private to this
// folder.
#pragma once

#include "comet/io/image/image.h"

namespace comet::io {

struct Decoded {
  Image image;
  int orientation = 1;  // EXIF's
};

Result<Decoded> decode_jpeg(std::string_view bytes, const std::string& name);
Result<Decoded> decode_png(std::string_view bytes, const std::string& name);

/// Takes memory for the pixels, or says why not.
Result<Image> make_image(int64_t width, int64_t height, const std::string& name);

/// What a reader that gave up says: its file ended too early, or `message`. `format`: "JPEG".
Error decode_error(std::string_view format, bool truncated, std::string_view message,
                   const std::string& name);

/// EXIF's tag Orientation in a TIFF block; 1 when it is absent or broken.
int exif_orientation(std::string_view tiff);

}  // namespace comet::io
