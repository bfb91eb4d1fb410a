// The alternatives of LLaMA-3's expression, tried in its order at each place (Qwen2's has \p{N} as
// the third):
//   1  (?i:'s|'t|'re|'ve|'m|'ll|'d)
//   2  [^\r\n\p{L}\p{N}]?\p{L}+
//   3  \p{N}{1,3}
//   4   ?[^\s\p{L}\p{N}]+[\r\n]*
//   5  \s*[\r\n]+
//   6  \s+(?!\S)
//   7  \s+
// Each looks ahead by a constant or to the end of the run it stands in, and a run of white space is
// cut into at most three words, so a text is scanned in linear time.
#include "comet/text/split/word_scan.h"
#include "comet/text/split/word_scanners.h"

namespace comet::text {
namespace {

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

size_t digits_end(std::string_view text, size_t at, int max_digits) {
  int num_digits = 0;
  return run_end(text, at,
                 [&](const Place& p) { return p.is(kNumber) && num_digits++ < max_digits; });
}

/// Alternative 4 behind the optional blank.
size_t punctuation_end(std::string_view text, size_t at) {
  return run_end(text, others_end(text, at), [](const Place& p) { return p.is_line_break(); });
}

/// Alternatives 5 to 7: up to the last line break of the run, if there is one.
size_t white_space_end(std::string_view text, size_t begin) {
  size_t last_break_end = begin;
  run_end(text, begin, [&](const Place& p) {
    if (p.is_line_break()) last_break_end = p.end();
    return p.is(kSpace);
  });
  return last_break_end > begin ? last_break_end : white_space_word_end(text, begin);
}

size_t word_end(std::string_view text, size_t begin, int max_digits) {
  const Place first(text, begin);
  if (first.code_point == '\'') {
    const size_t end = contraction_end(text, first.end());
    if (end > first.end()) return end;
  }
  if (first.is(kLetter)) return letters_end(text, first.end());
  if (first.is(kNumber)) return digits_end(text, begin, max_digits);
  const Place second(text, first.end());
  if (!first.is_line_break() && second.is(kLetter)) return letters_end(text, second.end());
  if (first.is_other()) return punctuation_end(text, first.end());
  if (first.code_point == ' ' && second.is_other()) return punctuation_end(text, second.end());
  return white_space_end(text, begin);
}

}  // namespace

size_t llama3_word_end(std::string_view text, size_t begin) { return word_end(text, begin, 3); }

size_t qwen2_word_end(std::string_view text, size_t begin) { return word_end(text, begin, 1); }

}  // namespace comet::text
