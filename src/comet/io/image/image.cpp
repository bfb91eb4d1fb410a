#include "comet/io/image/image.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "comet/io/file.h"
#include "comet/io/image/codecs.h"

namespace comet::io {
namespace {

constexpr std::string_view kJpegStart = "\xFF\xD8\xFF";
constexpr std::string_view kPngStart = "\x89PNG\r\n\x1A\n";

}  // namespace

Result<Image> make_image(int64_t width, int64_t height, const std::string& name) {
  if (width < 1 || height < 1 || width > kMaxImagePixels / height) {
    return make_error(ErrorCode::kResourceExhausted,
                      "{}: the image has {} x {} pixels, expected 1 to {} million in all; make it "
                      "smaller first",
                      name, width, height, kMaxImagePixels / 1000000);
  }
  Image image{width, height, {}};
  try {
    image.rgb.resize(static_cast<size_t>(width * height * kImageColours));
  } catch (const std::bad_alloc&) {
    return make_error(ErrorCode::kResourceExhausted,
                      "{}: no memory for an image of {} x {} pixels; make it smaller first", name,
                      width, height);
  }
  return image;
}

Error decode_error(std::string_view format, bool truncated, std::string_view message,
                   const std::string& name) {
  if (truncated) {
    return make_error(ErrorCode::kCorrupt, "{}: the {} file is truncated; get it again", name,
                      format);
  }
  return make_error(ErrorCode::kCorrupt, "{}: broken {} file: {}", name, format, message);
}

Image oriented(Image image, int orientation) {
  if (orientation < 2 || orientation > 8) return image;
  const bool turned = orientation >= 5;  // rows become columns
  Image result{turned ? image.height : image.width, turned ? image.width : image.height, {}};
  result.rgb.resize(image.rgb.size());
  const bool mirrored_x =
      orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool mirrored_y =
      orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  uint8_t* to = result.rgb.data();
  for (int64_t y = 0; y < result.height; ++y) {
    for (int64_t x = 0; x < result.width; ++x, to += kImageColours) {
      const int64_t across = turned ? y : x;
      const int64_t down = turned ? x : y;
      const int64_t from_x = mirrored_x ? image.width - 1 - across : across;
      const int64_t from_y = mirrored_y ? image.height - 1 - down : down;
      std::memcpy(to, image.row(from_y) + from_x * kImageColours, kImageColours);
    }
  }
  return result;
}

Result<Image> decode_image(std::string_view bytes, const std::string& name,
                           Orientation orientation) {
  if (bytes.empty()) return make_error(ErrorCode::kCorrupt, "{}: the file is empty", name);
  const bool jpeg = bytes.starts_with(kJpegStart);
  if (!jpeg && !bytes.starts_with(kPngStart)) {
    return make_error(ErrorCode::kUnsupported,
                      "{}: neither a JPEG nor a PNG file; convert the image to one of them", name);
  }
  auto decoded = jpeg ? decode_jpeg(bytes, name) : decode_png(bytes, name);
  if (!decoded) return decoded.error();
  if (orientation == Orientation::kIgnore) return std::move(decoded->image);
  return oriented(std::move(decoded->image), decoded->orientation);
}

Result<Image> read_image(const std::string& path, Orientation orientation) {
  auto bytes = read_file(path, kMaxImageFileBytes);
  if (!bytes) return bytes.error();
  return decode_image(*bytes, path, orientation);
}

}  // namespace comet::io
