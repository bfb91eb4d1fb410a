// Decoded pixels against Pillow's (tools/make_image_goldens.py), and what broken files say.
#include "comet/io/image/image.h"

#include <gtest/gtest.h>

#include <cstring>

#include "comet/io/file.h"
#include "comet/io/safetensors.h"
#include "support/temporary_folder.h"

namespace comet::io {
namespace {

const std::string kFolder = COMET_SOURCE_DIR "/tests/data/vision/images/";

std::string bytes_of(const std::string& name) {
  return read_file(kFolder + name, kMaxImageFileBytes).value();
}

/// The error of decoding `bytes` named "x.img".
std::string error_of(std::string_view bytes) {
  auto image = decode_image(bytes, "x.img");
  return image ? "no error" : image.error().message;
}

/// Changes the width and height of a PNG's header, and its checksum.
std::string png_of_size(uint32_t width, uint32_t height) {
  std::string header = {'I', 'H', 'D', 'R'};
  for (const uint32_t size : {width, height}) {
    for (int shift = 24; shift >= 0; shift -= 8) header += static_cast<char>(size >> shift);
  }
  header += std::string("\x08\x02\0\0\0", 5);
  uint32_t crc = 0xFFFFFFFF;
  for (const char byte : header) {
    crc ^= static_cast<uint8_t>(byte);
    for (int i = 0; i < 8; ++i) crc = crc >> 1 ^ ((crc & 1) != 0 ? 0xEDB88320 : 0);
  }
  std::string png = bytes_of("rgb.png");
  png.replace(12, header.size(), header);
  for (int i = 0; i < 4; ++i) png[29 + i] = static_cast<char>(~crc >> (24 - 8 * i));
  return png;
}

/// Changes the size in a baseline JPEG's frame header.
std::string jpeg_of_size(uint16_t width, uint16_t height) {
  std::string jpeg = bytes_of("rgb_444.jpg");
  const size_t frame = jpeg.find("\xFF\xC0");
  for (const auto& [at, size] : {std::pair{frame + 5, height}, {frame + 7, width}}) {
    jpeg[at] = static_cast<char>(size >> 8);
    jpeg[at + 1] = static_cast<char>(size);
  }
  return jpeg;
}

TEST(Image, PixelsAreThoseOfPillow) {
  auto goldens = SafetensorsFile::open(kFolder + "decoded.safetensors");
  ASSERT_TRUE(goldens) << goldens.error().message;
  int num_files = 0;
  for (const std::string& name : goldens->names()) {
    SCOPED_TRACE(name);
    ++num_files;
    const Tensor golden = goldens->tensor(name).value();
    auto image = read_image(kFolder + name);
    ASSERT_TRUE(image) << image.error().message;
    ASSERT_EQ(golden.shape(), (Shape{image->height, image->width, 3}));
    EXPECT_EQ(std::memcmp(golden.raw(), image->rgb.data(), image->rgb.size()), 0);
  }
  EXPECT_EQ(num_files, 28);
}

TEST(Image, OrientationMayBeIgnored) {
  auto turned = read_image(kFolder + "exif_6.jpg");
  auto stored = read_image(kFolder + "exif_6.jpg", Orientation::kIgnore);
  auto plain = read_image(kFolder + "exif_1.jpg");
  ASSERT_TRUE(turned && stored && plain);
  EXPECT_EQ(turned->width, 5);
  EXPECT_EQ(turned->height, 9);
  EXPECT_EQ(stored->width, 9);
  EXPECT_EQ(stored->rgb, plain->rgb);
}

TEST(Image, BrokenExifChangesNothing) {
  std::string jpeg = bytes_of("exif_6.jpg");
  const size_t tiff = jpeg.find("Exif") + 6;
  jpeg[tiff + 7] = '\x7F';  // the directory lies far behind the end
  auto image = decode_image(jpeg, "x.jpg");
  ASSERT_TRUE(image) << image.error().message;
  EXPECT_EQ(image->width, 9);
}

TEST(Image, TruncatedFilesAreNamed) {
  for (const char* name : {"rgb_420.jpg", "progressive.jpg", "cmyk.jpg"}) {
    const std::string bytes = bytes_of(name);
    for (const size_t kept : {bytes.size() / 2, bytes.size() * 9 / 10}) {
      EXPECT_EQ(error_of(bytes.substr(0, kept)), "x.img: the JPEG file is truncated; get it again")
          << name << " cut to " << kept;
    }
  }
  const std::string png = bytes_of("rgb.png");
  EXPECT_EQ(error_of(png.substr(0, png.size() / 2)),
            "x.img: the PNG file is truncated; get it again");
  // Whatever the cut, an error or an image, never a crash; the header alone is no image.
  for (const char* name : {"exif_6.jpg", "palette_alpha.png", "interlaced.png"}) {
    const std::string bytes = bytes_of(name);
    for (size_t kept = 0; kept < bytes.size(); ++kept) {
      auto image = decode_image(bytes.substr(0, kept), name);
      if (kept < bytes.size() / 2) {
        EXPECT_FALSE(image) << name << " cut to " << kept;
      }
    }
  }
}

TEST(Image, BrokenFilesAreNamed) {
  EXPECT_EQ(error_of(""), "x.img: the file is empty");
  EXPECT_EQ(error_of("GIF89a..."),
            "x.img: neither a JPEG nor a PNG file; convert the image to one of them");
  std::string png = bytes_of("rgb.png");
  png[60] = static_cast<char>(png[60] ^ 1);
  EXPECT_TRUE(error_of(png).starts_with("x.img: broken PNG file: ")) << error_of(png);
  std::string jpeg = bytes_of("rgb_444.jpg");
  jpeg[jpeg.find("\xFF\xC0") + 4] = 12;  // bits a colour
  EXPECT_TRUE(error_of(jpeg).starts_with("x.img: broken JPEG file: ")) << error_of(jpeg);
  const auto missing = read_image(kFolder + "none.jpg");
  ASSERT_FALSE(missing);
  EXPECT_NE(missing.error().message.find("none.jpg"), std::string::npos);
}

TEST(Image, HugeSizesAreRefusedByTheHeader) {
  const std::string expected =
      "x.img: the image has 30000 x 30000 pixels, expected 1 to 134 million in all; make it "
      "smaller first";
  EXPECT_EQ(error_of(png_of_size(30000, 30000)), expected);
  EXPECT_EQ(error_of(jpeg_of_size(30000, 30000)), expected);
  EXPECT_FALSE(decode_image(png_of_size(0x7FFFFFFF, 0x7FFFFFFF), "x"));
}

}  // namespace
}  // namespace comet::io
