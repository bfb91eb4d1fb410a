#include "comet/text/bpe/byte_level.h"

#include "comet/text/unicode/utf8.h"

namespace comet::text {
namespace {

// Bytes that are visible characters of Latin-1 stand for themselves; the other 68, in order, are
// written as U+0100, U+0101, ...
constexpr uint32_t kFirstStandIn = 0x100;

constexpr bool stands_for_itself(uint32_t byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) ||
         (byte >= 0xAE && byte <= 0xFF);
}

/// The byte behind stand-in number `idx`; 256 when there are not that many.
uint32_t byte_of_stand_in(uint32_t idx) {
  for (uint32_t byte = 0; byte < 256; ++byte) {
    if (!stands_for_itself(byte) && idx-- == 0) return byte;
  }
  return 256;
}

uint32_t stand_in_of_byte(uint8_t byte) {
  uint32_t idx = 0;
  for (uint32_t smaller = 0; smaller < byte; ++smaller) idx += stands_for_itself(smaller) ? 0 : 1;
  return kFirstStandIn + idx;
}

}  // namespace

std::string byte_spelling(uint8_t byte) {
  const uint32_t code_point = stands_for_itself(byte) ? byte : stand_in_of_byte(byte);
  if (code_point < 0x80) return {static_cast<char>(code_point)};
  return {static_cast<char>(0xC0 | code_point >> 6), static_cast<char>(0x80 | (code_point & 0x3F))};
}

std::optional<std::string> spelled_bytes(std::string_view spelling) {
  std::string bytes;
  for (size_t at = 0; at < spelling.size();) {
    const CodePoint c = code_point_at(spelling, at);
    at += c.num_bytes;
    uint32_t byte = c.value;
    if (byte >= kFirstStandIn) {
      byte = byte_of_stand_in(byte - kFirstStandIn);
    } else if (!stands_for_itself(byte)) {
      return std::nullopt;
    }
    if (byte > 0xFF) return std::nullopt;
    bytes.push_back(static_cast<char>(byte));
  }
  return bytes;
}

}  // namespace comet::text
