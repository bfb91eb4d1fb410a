// JPEG by libjpeg-turbo: integer DCT and smooth upsampling, the library's defaults, which are
// Pillow's. libjpeg reports errors by a function that may not return: ours jumps back to the last
// guarded() call, whose body holds nothing that needs a destructor.
// clang-format off
#include <csetjmp>
#include <cstdio>  // jpeglib.h takes FILE from it
#include <jpeglib.h>
#include <jerror.h>
// clang-format on

#include "comet/io/image/codecs.h"

namespace comet::io {
namespace {

constexpr int kMaxScans = 500;  // of a progressive file; each costs a pass over all pixels
constexpr int kExifMarker = JPEG_APP0 + 1;
constexpr std::string_view kExifStart("Exif\0\0", 6);

/// a·b/255, rounded, as Pillow rounds it.
uint8_t scaled(int a, int b) {
  const int product = a * b + 128;
  return static_cast<uint8_t>((product + (product >> 8)) >> 8);
}

/// `cmyk` has 255 where there is no ink.
void cmyk_to_rgb(const uint8_t* cmyk, int64_t num_pixels, uint8_t* rgb) {
  for (int64_t i = 0; i < num_pixels; ++i) {
    const int light = cmyk[4 * i + 3];
    for (int c = 0; c < 3; ++c) {
      rgb[3 * i + c] = static_cast<uint8_t>(light - scaled(255 - cmyk[4 * i + c], light));
    }
  }
}

class JpegReader {
 public:
  explicit JpegReader(std::string_view bytes) {
    info_.err = jpeg_std_error(&errors_);
    errors_.error_exit = &JpegReader::on_error;
    errors_.emit_message = &JpegReader::on_message;
    progress_.progress_monitor = &JpegReader::on_progress;
    info_.client_data = this;
    created_ = guarded([&] {
      jpeg_create_decompress(&info_);
      jpeg_mem_src(&info_, reinterpret_cast<const unsigned char*>(bytes.data()),
                   static_cast<unsigned long>(bytes.size()));
      jpeg_save_markers(&info_, kExifMarker, 0xFFFF);
      info_.progress = &progress_;
    });
  }
  JpegReader(const JpegReader&) = delete;
  JpegReader& operator=(const JpegReader&) = delete;
  ~JpegReader() { jpeg_destroy_decompress(&info_); }

  bool read_header() {
    return created_ && guarded([&] {
             jpeg_read_header(&info_, TRUE);
             is_cmyk_ = info_.num_components == 4;
             info_.out_color_space = is_cmyk_ ? JCS_CMYK : JCS_RGB;
           });
  }
  /// `cmyk_row` has room for a row of four bytes a pixel where is_cmyk().
  bool read_pixels(Image& image, uint8_t* cmyk_row) {
    return guarded([&] {
      jpeg_start_decompress(&info_);
      while (info_.output_scanline < info_.output_height) {
        uint8_t* to = image.row(info_.output_scanline);
        uint8_t* row = is_cmyk_ ? cmyk_row : to;
        jpeg_read_scanlines(&info_, &row, 1);
        if (is_cmyk_) cmyk_to_rgb(row, image.width, to);
      }
    });
  }

  [[nodiscard]] int64_t width() const { return info_.image_width; }
  [[nodiscard]] int64_t height() const { return info_.image_height; }
  [[nodiscard]] bool is_cmyk() const { return is_cmyk_; }
  [[nodiscard]] bool truncated() const { return truncated_; }
  [[nodiscard]] const char* message() const { return message_; }
  [[nodiscard]] int orientation() const {
    for (const jpeg_marker_struct* marker = info_.marker_list; marker; marker = marker->next) {
      const std::string_view data(reinterpret_cast<const char*>(marker->data), marker->data_length);
      if (marker->marker == kExifMarker && data.starts_with(kExifStart)) {
        return exif_orientation(data.substr(kExifStart.size()));
      }
    }
    return 1;
  }

 private:
  template <typename Body>
  bool guarded(Body body) {
    if (setjmp(jump_) != 0) return false;
    body();
    return true;
  }
  static JpegReader& reader_of(j_common_ptr info) {
    return *static_cast<JpegReader*>(info->client_data);
  }
  [[noreturn]] static void on_error(j_common_ptr info) {
    JpegReader& reader = reader_of(info);
    info->err->format_message(info, reader.message_);
    std::longjmp(reader.jump_, 1);
  }
  /// Level −1 is a warning; only the one that says "the file ended" matters.
  static void on_message(j_common_ptr info, int level) {
    if (level < 0 && info->err->msg_code == JWRN_JPEG_EOF) {
      reader_of(info).truncated_ = true;
      on_error(info);
    }
  }
  static void on_progress(j_common_ptr info) {
    if (reinterpret_cast<j_decompress_ptr>(info)->input_scan_number <= kMaxScans) return;
    JpegReader& reader = reader_of(info);
    std::snprintf(reader.message_, sizeof reader.message_, "more than %d scans", kMaxScans);
    std::longjmp(reader.jump_, 1);
  }

  jpeg_decompress_struct info_{};
  jpeg_error_mgr errors_{};
  jpeg_progress_mgr progress_{};
  std::jmp_buf jump_{};
  char message_[JMSG_LENGTH_MAX] = "";
  bool created_ = false;
  bool is_cmyk_ = false;
  bool truncated_ = false;
};

Error error_of(const JpegReader& reader, const std::string& name) {
  return decode_error("JPEG", reader.truncated(), reader.message(), name);
}

}  // namespace

Result<Decoded> decode_jpeg(std::string_view bytes, const std::string& name) {
  JpegReader reader(bytes);
  if (!reader.read_header()) return error_of(reader, name);
  auto image = make_image(reader.width(), reader.height(), name);
  if (!image) return image.error();
  std::vector<uint8_t> cmyk_row(reader.is_cmyk() ? static_cast<size_t>(reader.width() * 4) : 0);
  if (!reader.read_pixels(*image, cmyk_row.data())) return error_of(reader, name);
  return Decoded{*std::move(image), reader.orientation()};
}

}  // namespace comet::io
