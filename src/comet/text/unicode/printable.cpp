#include "comet/text/unicode/printable.h"

#include <fmt/format.h>

#include "comet/text/unicode/utf8.h"

namespace comet::text {

std::string printable(std::string_view text, size_t max_bytes) {
  std::string start(text.substr(0, max_bytes));
  std::string out;
  for (const char c : take_complete_utf8(start)) {
    if (static_cast<uint8_t>(c) < 0x20 || c == 0x7F) {
      out += fmt::format("\\x{:02X}", static_cast<uint8_t>(c));
    } else {
      out += c;
    }
  }
  return text.size() > max_bytes ? out + "..." : out;
}

}  // namespace comet::text
