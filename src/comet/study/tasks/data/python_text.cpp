#include "comet/study/tasks/data/python_text.h"

#include <utf8proc.h>

#include "comet/text/unicode/utf8.h"

namespace comet::study {
namespace {

/// str.isspace() of one character.
bool is_python_space(uint32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
         c == 0x205F || c == 0x3000;
}

}  // namespace

std::string_view python_rstrip(std::string_view text) {
  while (!text.empty()) {
    const text::CodePoint last = text::code_point_before(text, text.size());
    if (!is_python_space(last.value)) break;
    text.remove_suffix(last.num_bytes);
  }
  return text;
}

std::string_view python_strip(std::string_view text) {
  text = python_rstrip(text);
  while (!text.empty()) {
    const text::CodePoint first = text::code_point_at(text, 0);
    if (!is_python_space(first.value)) break;
    text.remove_prefix(first.num_bytes);
  }
  return text;
}

std::string python_capitalize(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const text::CodePoint c = text::code_point_at(text, at);
    const auto value = static_cast<utf8proc_int32_t>(c.value);
    text::append_utf8(
        static_cast<uint32_t>(at == 0 ? utf8proc_totitle(value) : utf8proc_tolower(value)), out);
    at += c.num_bytes;
  }
  return out;
}

int64_t python_length(std::string_view text) {
  int64_t count = 0;
  for (const char c : text) count += (static_cast<uint8_t>(c) & 0xC0U) != 0x80U ? 1 : 0;
  return count;
}

std::string replace_all(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  out.reserve(text.size());
  size_t begin = 0;
  for (size_t at = text.find(from); at != std::string_view::npos; at = text.find(from, begin)) {
    out.append(text, begin, at - begin).append(to);
    begin = at + from.size();
  }
  return out.append(text, begin, std::string_view::npos);
}

}  // namespace comet::study
