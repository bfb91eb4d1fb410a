// The alternatives of GPT-2's expression, tried in its order at each place:
//   1  's|'t|'re|'ve|'m|'ll|'d   (lower case only)
//   2   ?\p{L}+
//   3   ?\p{N}+
//   4   ?[^\s\p{L}\p{N}]+
//   5  \s+(?!\S)
//   6  \s+
#include "comet/text/split/word_scan.h"
#include "comet/text/split/word_scanners.h"

namespace comet::text {
namespace {

size_t contraction_num_bytes(std::string_view text) {
  for (const std::string_view ending : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"}) {
    if (text.starts_with(ending)) return ending.size();
  }
  return 0;
}

}  // namespace

size_t gpt2_word_end(std::string_view text, size_t begin) {
  const Place first(text, begin);
  if (first.code_point == '\'') {
    const size_t num_bytes = contraction_num_bytes(text.substr(begin, 3));
    if (num_bytes > 0) return begin + num_bytes;
  }
  const Place start = first.code_point == ' ' ? Place(text, first.end()) : first;
  if (start.is(kLetter)) return letters_end(text, start.end());
  if (start.is(kNumber)) {
    return run_end(text, start.end(), [](const Place& p) { return p.is(kNumber); });
  }
  if (start.is_other()) return others_end(text, start.end());
  return white_space_word_end(text, begin);
}

}  // namespace comet::text
