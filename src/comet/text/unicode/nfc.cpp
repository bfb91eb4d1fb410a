// utf8proc decomposes and composes; the order of combining marks is restored here, because
// utf8proc's own loop is quadratic in a run of them. Code points that the package's older Unicode
// does not know as marks (late_starters) pass unchanged and separate what lies around them.
#include "comet/text/unicode/nfc.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <vector>

#include "comet/base/check.h"
#include "comet/text/unicode/unicode_tables.h"
#include "comet/text/unicode/utf8.h"

namespace comet::text {
namespace {

constexpr uint32_t kFirstMark = 0x300;  // NFC changes nothing below
constexpr size_t kMaxDecomposed = 18;   // code points that one code point can become

int combining_class(utf8proc_int32_t code_point) {
  return utf8proc_get_property(code_point)->combining_class;
}

void append_decomposed(uint32_t code_point, std::vector<utf8proc_int32_t>& out) {
  std::array<utf8proc_int32_t, kMaxDecomposed> parts{};
  const utf8proc_ssize_t num_parts =
      utf8proc_decompose_char(static_cast<utf8proc_int32_t>(code_point), parts.data(), parts.size(),
                              UTF8PROC_DECOMPOSE, nullptr);
  COMET_CHECK(num_parts >= 0 && static_cast<size_t>(num_parts) <= parts.size(), "U+{:04X}",
              code_point);
  out.insert(out.end(), parts.begin(), parts.begin() + num_parts);
}

/// Stable within each run of marks (Unicode §3.11, D109).
void reorder_marks(std::vector<utf8proc_int32_t>& code_points) {
  const auto is_mark = [](utf8proc_int32_t c) { return combining_class(c) != 0; };
  for (auto begin = code_points.begin(); begin != code_points.end();) {
    begin = std::find_if(begin, code_points.end(), is_mark);
    const auto end = std::find_if_not(begin, code_points.end(), is_mark);
    if (end - begin > 1) {
      std::stable_sort(begin, end, [](utf8proc_int32_t a, utf8proc_int32_t b) {
        return combining_class(a) < combining_class(b);
      });
    }
    begin = end;
  }
}

/// Appends the form of what `segment` was decomposed into, and empties it.
void append_composed(std::vector<utf8proc_int32_t>& segment, std::string& out) {
  if (segment.empty()) return;
  reorder_marks(segment);
  const utf8proc_ssize_t num_left =
      utf8proc_normalize_utf32(segment.data(), static_cast<utf8proc_ssize_t>(segment.size()),
                               static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  COMET_CHECK(num_left >= 0, "utf8proc error {}", num_left);
  for (utf8proc_ssize_t i = 0; i < num_left; ++i) {
    append_utf8(static_cast<uint32_t>(segment[static_cast<size_t>(i)]), out);
  }
  segment.clear();
}

bool may_change(std::string_view text) {
  return std::ranges::any_of(text, [](char c) {
    return static_cast<uint8_t>(c) >= 0xC0 + (kFirstMark >> 6);  // the lead byte of U+0300 or above
  });
}

}  // namespace

std::string to_nfc(std::string_view text) {
  if (!may_change(text)) return std::string(text);
  const auto late = late_starters();
  std::string out;
  out.reserve(text.size());
  std::vector<utf8proc_int32_t> segment;
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = code_point_at(text, at);
    if (c.value >= late.front() && std::ranges::binary_search(late, c.value)) {
      append_composed(segment, out);
      out += text.substr(at, c.num_bytes);
    } else {
      append_decomposed(c.value, segment);
    }
    at += c.num_bytes;
  }
  append_composed(segment, out);
  return out;
}

}  // namespace comet::text
