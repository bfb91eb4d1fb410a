#include "comet/text/unicode/utf8.h"

namespace comet::text {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

enum class Form { kComplete, kInvalid, kTruncated };

/// What starts at bytes[at]: a code point, a maximal subpart of an ill-formed sequence, or a
/// well-formed start that the end of the bytes cuts off.
struct Sequence {
  Form form;
  uint32_t num_bytes;
};

/// Table 3-7 of the Unicode standard: the length that a lead byte announces (0: not a lead byte)
/// and the range of its second byte.
struct LeadByte {
  uint32_t num_bytes;
  uint8_t second_low = 0x80;
  uint8_t second_high = 0xBF;
};

LeadByte lead_byte(uint8_t lead) {
  if (lead < 0x80) return {1};
  if (lead < 0xC2) return {0};
  if (lead < 0xE0) return {2};
  if (lead == 0xE0) return {3, 0xA0, 0xBF};
  if (lead == 0xED) return {3, 0x80, 0x9F};
  if (lead < 0xF0) return {3};
  if (lead == 0xF0) return {4, 0x90, 0xBF};
  if (lead < 0xF4) return {4};
  if (lead == 0xF4) return {4, 0x80, 0x8F};
  return {0};
}

Sequence sequence_at(std::string_view bytes, size_t at) {
  const LeadByte lead = lead_byte(static_cast<uint8_t>(bytes[at]));
  if (lead.num_bytes == 0) return {Form::kInvalid, 1};
  uint8_t low = lead.second_low;
  uint8_t high = lead.second_high;
  for (uint32_t i = 1; i < lead.num_bytes; ++i) {
    if (at + i == bytes.size()) return {Form::kTruncated, i};
    const auto byte = static_cast<uint8_t>(bytes[at + i]);
    if (byte < low || byte > high) return {Form::kInvalid, i};
    low = 0x80;
    high = 0xBF;
  }
  return {Form::kComplete, lead.num_bytes};
}

/// Appends bytes[at, ...) to `out` up to a truncated sequence at the end, whose position it
/// returns.
size_t append_replaced(std::string_view bytes, std::string& out) {
  size_t at = 0;
  while (at < bytes.size()) {
    const Sequence sequence = sequence_at(bytes, at);
    if (sequence.form == Form::kTruncated) break;
    if (sequence.form == Form::kInvalid) {
      out += kReplacement;
    } else {
      out.append(bytes, at, sequence.num_bytes);
    }
    at += sequence.num_bytes;
  }
  return at;
}

}  // namespace

CodePoint code_point_at(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<uint32_t>(static_cast<uint8_t>(text[i])); };
  const uint32_t lead = byte(at);
  if (lead < 0x80) return {lead, 1};
  const auto tail = [&](size_t i) { return byte(at + i) & 0x3F; };
  if (lead < 0xE0) return {(lead & 0x1F) << 6 | tail(1), 2};
  if (lead < 0xF0) return {(lead & 0x0F) << 12 | tail(1) << 6 | tail(2), 3};
  return {(lead & 0x07) << 18 | tail(1) << 12 | tail(2) << 6 | tail(3), 4};
}

CodePoint code_point_before(std::string_view text, size_t end) {
  size_t begin = end - 1;
  while ((static_cast<uint8_t>(text[begin]) & 0xC0) == 0x80) --begin;
  return code_point_at(text, begin);
}

void append_utf8(uint32_t code_point, std::string& out) {
  const auto tail = [&](int shift) {
    out.push_back(static_cast<char>(0x80 | (code_point >> shift & 0x3F)));
  };
  if (code_point < 0x80) {
    out.push_back(static_cast<char>(code_point));
    return;
  }
  if (code_point < 0x800) {
    out.push_back(static_cast<char>(0xC0 | code_point >> 6));
  } else {
    if (code_point < 0x10000) {
      out.push_back(static_cast<char>(0xE0 | code_point >> 12));
    } else {
      out.push_back(static_cast<char>(0xF0 | code_point >> 18));
      tail(12);
    }
    tail(6);
  }
  tail(0);
}

bool is_valid_utf8(std::string_view bytes) {
  size_t at = 0;
  while (at < bytes.size()) {
    const Sequence sequence = sequence_at(bytes, at);
    if (sequence.form != Form::kComplete) return false;
    at += sequence.num_bytes;
  }
  return true;
}

std::string replace_invalid_utf8(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  if (append_replaced(bytes, out) < bytes.size()) out += kReplacement;
  return out;
}

std::string take_complete_utf8(std::string& pending) {
  std::string out;
  pending.erase(0, append_replaced(pending, out));
  return out;
}

}  // namespace comet::text
