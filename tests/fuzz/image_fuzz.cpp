// A JPEG or PNG file → pixels → what a classifier sees. Files whose header asks for more than
// 4 million pixels are passed over: they cost seconds, and their limit has a test.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "comet/base/check.h"
#include "comet/io/image/preprocessing.h"

namespace {

constexpr uint64_t kMaxPixels = uint64_t{1} << 22;

uint64_t big_endian(std::string_view bytes, size_t at, size_t count) {
  uint64_t value = 0;
  for (size_t i = 0; i < count && at + i < bytes.size(); ++i) {
    value = value << 8 | static_cast<uint8_t>(bytes[at + i]);
  }
  return value;
}

bool is_large(std::string_view file) {
  constexpr size_t kPngSize = 16;  // of width and height in IHDR, which comes first
  if (big_endian(file, kPngSize, 4) * big_endian(file, kPngSize + 4, 4) > kMaxPixels &&
      file.starts_with("\x89PNG")) {
    return true;
  }
  for (size_t i = 0; i + 9 < file.size(); ++i) {  // a start of frame: height, width
    const auto marker = static_cast<uint8_t>(file[i + 1]);
    if (static_cast<uint8_t>(file[i]) != 0xFF || marker < 0xC0 || marker > 0xCF) continue;
    if (big_endian(file, i + 5, 2) * big_endian(file, i + 7, 2) > kMaxPixels) return true;
  }
  return false;
}

void check_pixels(const comet::io::Image& image) {
  COMET_CHECK(image.width > 0 && image.height > 0 &&
                  image.rgb.size() == static_cast<size_t>(image.width * image.height * 3),
              "{} x {}: {} bytes", image.width, image.height, image.rgb.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view file(reinterpret_cast<const char*>(data), size);
  if (is_large(file)) return 0;
  const auto image = comet::io::decode_image(file, "image");
  if (!image.ok()) {
    COMET_CHECK(image.error().message.starts_with("image"), "{}", image.error().message);
    return 0;
  }
  check_pixels(*image);
  comet::io::Preprocessing preprocessing;
  preprocessing.image_size = 32;
  const comet::io::Image seen = comet::io::evaluation_crop(*image, preprocessing);
  check_pixels(seen);
  COMET_CHECK(seen.width == 32 && seen.height == 32, "{} x {}", seen.width, seen.height);
  return 0;
}
