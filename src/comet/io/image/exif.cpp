// EXIF's tag Orientation (CIPA DC-008): the block is a small TIFF file; its first directory lists
// the tag 0x0112 as one SHORT.
#include <cstdint>
#include <optional>

#include "comet/io/image/codecs.h"

namespace comet::io {
namespace {

constexpr uint32_t kOrientationTag = 0x0112;
constexpr uint32_t kShortType = 3;
constexpr size_t kEntryBytes = 12;

/// Numbers of a TIFF block in its byte order; nothing behind the end.
class TiffBytes {
 public:
  explicit TiffBytes(std::string_view bytes) : bytes_(bytes), big_(bytes.starts_with("MM")) {}

  [[nodiscard]] std::optional<uint32_t> number(size_t offset, size_t num_bytes) const {
    if (offset > bytes_.size() || bytes_.size() - offset < num_bytes) return std::nullopt;
    uint32_t value = 0;
    for (size_t i = 0; i < num_bytes; ++i) {
      const size_t at = offset + (big_ ? i : num_bytes - 1 - i);
      value = value << 8 | static_cast<uint8_t>(bytes_[at]);
    }
    return value;
  }

 private:
  std::string_view bytes_;
  bool big_;
};

}  // namespace

int exif_orientation(std::string_view tiff) {
  if (!tiff.starts_with("MM") && !tiff.starts_with("II")) return 1;
  const TiffBytes bytes(tiff);
  const auto directory = bytes.number(4, 4);
  if (bytes.number(2, 2) != 42U || !directory) return 1;
  const uint32_t num_entries = bytes.number(*directory, 2).value_or(0);
  for (uint32_t i = 0; i < num_entries; ++i) {
    const size_t entry = size_t{*directory} + 2 + i * kEntryBytes;
    const auto tag = bytes.number(entry, 2);
    if (!tag) return 1;
    if (tag != kOrientationTag) continue;
    const auto value = bytes.number(entry + 8, 2);
    const bool valid = bytes.number(entry + 2, 2) == kShortType && value && *value <= 8;
    return valid && *value > 0 ? static_cast<int>(*value) : 1;
  }
  return 1;
}

}  // namespace comet::io
