// The alternatives of LLaMA-3's expression, tried in its order at each place:
//   1  (?i:'s|'t|'re|'ve|'m|'ll|'d)
//   2  [^\r\n\p{L}\p{N}]?\p{L}+
//   3  \p{N}{1,3}
//   4   ?[^\s\p{L}\p{N}]+[\r\n]*
//   5  \s*[\r\n]+
//   6  \s+(?!\S)
//   7  \s+
// Each looks ahead by a constant or to the end of the run it stands in, and a run of white space is
// cut into at most three words, so a text is scanned in linear time.
#include "comet/text/bpe/llama3_words.h"

#include "comet/text/unicode/unicode_tables.h"
#include "comet/text/unicode/utf8.h"

namespace comet::text {
namespace {

constexpr uint8_t kNotOther = kLetter | kNumber | kSpace;
constexpr int kMaxDigits = 3;

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
  [[nodiscard]] bool is_other() const { return !is_end() && !is(kNotOther); }
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

size_t letters_end(std::string_view text, size_t at) {
  return run_end(text, at, [](const Place& p) { return p.is(kLetter); });
}

/// The ASCII letter that a character equals when case does not count, or 0.
char contraction_letter(uint32_t code_point) {
  if (code_point >= 'A' && code_point <= 'Z') return static_cast<char>(code_point - 'A' + 'a');
  if (code_point < kNumAscii) return static_cast<char>(code_point);
  for (const ContractionFold& fold : contraction_folds()) {
    if (fold.code_point == code_point) return fold.letter;
  }
  return 0;
}

/// Alternative 1 behind the apostrophe; `at` where nothing matches.
size_t contraction_end(std::string_view text, size_t at) {
  const Place first(text, at);
  if (first.is_end()) return at;
  const char letter = contraction_letter(first.code_point);
  switch (letter) {
    case 's':
    case 't':
    case 'm':
    case 'd':
      return first.end();
    case 'r':
    case 'v':
    case 'l': {
      const Place second(text, first.end());
      const char wanted = letter == 'l' ? 'l' : 'e';
      return !second.is_end() && contraction_letter(second.code_point) == wanted ? second.end()
                                                                                 : at;
    }
    default:
      return at;
  }
}

size_t digits_end(std::string_view text, size_t at) {
  int num_digits = 0;
  return run_end(text, at,
                 [&](const Place& p) { return p.is(kNumber) && num_digits++ < kMaxDigits; });
}

/// Alternative 4 behind the optional blank.
size_t punctuation_end(std::string_view text, size_t at) {
  const size_t end = run_end(text, at, [](const Place& p) { return p.is_other(); });
  return run_end(text, end, [](const Place& p) { return p.is_line_break(); });
}

/// Alternatives 5 to 7: up to the last line break of the run; else the run without its last
/// character, which belongs to the word behind it, unless the text or the run ends with it.
size_t white_space_end(std::string_view text, size_t begin) {
  size_t last_break_end = begin;
  size_t last_begin = begin;
  const size_t end = run_end(text, begin, [&](const Place& p) {
    if (!p.is(kSpace)) return false;
    if (p.is_line_break()) last_break_end = p.end();
    last_begin = p.at;
    return true;
  });
  if (last_break_end > begin) return last_break_end;
  return end == text.size() || last_begin == begin ? end : last_begin;
}

}  // namespace

size_t llama3_word_end(std::string_view text, size_t begin) {
  const Place first(text, begin);
  if (first.code_point == '\'') {
    const size_t end = contraction_end(text, first.end());
    if (end > first.end()) return end;
  }
  if (first.is(kLetter)) return letters_end(text, first.end());
  if (first.is(kNumber)) return digits_end(text, begin);
  const Place second(text, first.end());
  if (!first.is_line_break() && second.is(kLetter)) return letters_end(text, second.end());
  if (first.is_other()) return punctuation_end(text, first.end());
  if (first.code_point == ' ' && second.is_other()) return punctuation_end(text, second.end());
  return white_space_end(text, begin);
}

}  // namespace comet::text
