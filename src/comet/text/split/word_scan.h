// What the hand-written word scanners share: a place in the text with the class of its character,
// and runs of characters. Internal to split/; everything here is linear in what it looks at.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "comet/text/unicode/unicode_tables.h"
#include "comet/text/unicode/utf8.h"

namespace comet::text {

/// A place in the text and the character there; at the end of the text num_bytes is 0.
struct Place {
  size_t at;
  uint32_t code_point = 0;
  uint32_t num_bytes = 0;
  uint8_t cls = 0;

  Place(std::string_view text, size_t at_byte) : at(at_byte) {
    if (at == text.size()) return;
    const CodePoint c = code_point_at(text, at);
    code_point = c.value;
    num_bytes = c.num_bytes;
    cls = class_of(c.value);
  }
  [[nodiscard]] bool is_end() const { return num_bytes == 0; }
  [[nodiscard]] bool is(uint8_t bits) const { return (cls & bits) != 0; }
  /// Neither letter, number nor white space.
  [[nodiscard]] bool is_other() const { return !is_end() && !is(kLetter | kNumber | kSpace); }
  [[nodiscard]] bool is_line_break() const { return code_point == '\r' || code_point == '\n'; }
  [[nodiscard]] size_t end() const { return at + num_bytes; }
};

template <typename Predicate>
size_t run_end(std::string_view text, size_t at, Predicate belongs) {
  for (Place place(text, at); !place.is_end() && belongs(place); place = Place(text, at)) {
    at = place.end();
  }
  return at;
}

inline size_t letters_end(std::string_view text, size_t at) {
  return run_end(text, at, [](const Place& p) { return p.is(kLetter); });
}

inline size_t others_end(std::string_view text, size_t at) {
  return run_end(text, at, [](const Place& p) { return p.is_other(); });
}

/// `\s+(?!\S)|\s+` at white space: the run without its last character, which belongs to the word
/// behind it, unless the text or the run ends with it.
inline size_t white_space_word_end(std::string_view text, size_t begin) {
  size_t last_begin = begin;
  const size_t end = run_end(text, begin, [&](const Place& p) {
    if (p.is(kSpace)) last_begin = p.at;
    return p.is(kSpace);
  });
  return end == text.size() || last_begin == begin ? end : last_begin;
}

}  // namespace comet::text
