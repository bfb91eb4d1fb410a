// PNG by libpng: palettes and fewer than eight bits are expanded, of sixteen the high byte is kept,
// alpha is dropped, no gamma is applied. libpng reports errors by a function that may not return:
// ours jumps back to the last guarded() call, whose body holds nothing that needs a destructor.
#include <png.h>

#include <csetjmp>
#include <cstdio>
#include <cstring>

#include "comet/io/image/codecs.h"

namespace comet::io {
namespace {

class PngReader {
 public:
  explicit PngReader(std::string_view bytes) : rest_(bytes) {
    png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, this, &PngReader::on_error,
                                  &PngReader::on_warning);
    if (png_ != nullptr) info_ = png_create_info_struct(png_);
  }
  PngReader(const PngReader&) = delete;
  PngReader& operator=(const PngReader&) = delete;
  ~PngReader() { png_destroy_read_struct(&png_, &info_, nullptr); }

  bool read_header() {
    return info_ != nullptr && guarded([&] {
             png_set_read_fn(png_, this, &PngReader::on_read);
             png_set_user_limits(png_, 0x7FFFFFFF, 0x7FFFFFFF);  // ours, which names the file
             png_read_info(png_, info_);
             width_ = png_get_image_width(png_, info_);
             height_ = png_get_image_height(png_, info_);
           });
  }
  bool read_pixels(Image& image) {
    return guarded([&] {
      png_set_expand(png_);
      png_set_strip_16(png_);
      png_set_strip_alpha(png_);
      png_set_gray_to_rgb(png_);
      const int num_passes = png_set_interlace_handling(png_);
      png_read_update_info(png_, info_);
      if (png_get_rowbytes(png_, info_) != static_cast<size_t>(width_ * kImageColours)) {
        png_error(png_, "rows of an unknown layout");
      }
      for (int pass = 0; pass < num_passes; ++pass) {
        for (int64_t y = 0; y < height_; ++y) png_read_row(png_, image.row(y), nullptr);
      }
      png_read_end(png_, info_);  // EXIF may stand behind the pixels
    });
  }

  [[nodiscard]] int64_t width() const { return width_; }
  [[nodiscard]] int64_t height() const { return height_; }
  [[nodiscard]] bool truncated() const { return truncated_; }
  [[nodiscard]] const char* message() const { return message_; }
  [[nodiscard]] int orientation() const {
    png_uint_32 num_bytes = 0;
    png_bytep exif = nullptr;
    if (png_get_eXIf_1(png_, info_, &num_bytes, &exif) == 0 || exif == nullptr) return 1;
    return exif_orientation({reinterpret_cast<const char*>(exif), num_bytes});
  }

 private:
  template <typename Body>
  bool guarded(Body body) {
    if (setjmp(jump_) != 0) return false;
    body();
    return true;
  }
  [[noreturn]] static void on_error(png_structp png, png_const_charp message) {
    auto* reader = static_cast<PngReader*>(png_get_error_ptr(png));
    std::snprintf(reader->message_, sizeof reader->message_, "%s", message);
    std::longjmp(reader->jump_, 1);
  }
  static void on_warning(png_structp, png_const_charp) {}
  static void on_read(png_structp png, png_bytep to, size_t num_bytes) {
    auto* reader = static_cast<PngReader*>(png_get_io_ptr(png));
    if (reader->rest_.size() < num_bytes) {
      reader->truncated_ = true;
      png_error(png, "the file ends too early");
    }
    std::memcpy(to, reader->rest_.data(), num_bytes);
    reader->rest_.remove_prefix(num_bytes);
  }

  std::string_view rest_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
  std::jmp_buf jump_{};
  int64_t width_ = 0;
  int64_t height_ = 0;
  char message_[160] = "";
  bool truncated_ = false;
};

Error error_of(const PngReader& reader, const std::string& name) {
  return decode_error("PNG", reader.truncated(), reader.message(), name);
}

}  // namespace

Result<Decoded> decode_png(std::string_view bytes, const std::string& name) {
  PngReader reader(bytes);
  if (!reader.read_header()) return error_of(reader, name);
  auto image = make_image(reader.width(), reader.height(), name);
  if (!image) return image.error();
  if (!reader.read_pixels(*image)) return error_of(reader, name);
  return Decoded{*std::move(image), reader.orientation()};
}

}  // namespace comet::io
