// Pre-tokenization: the pattern that cuts text into words before BPE, one hand-written linear
// scanner for each regular expression that checkpoints use. A further pattern is a scanner and a
// row in the table of split_pattern.cpp.
#pragma once

#include <cstddef>
#include <string_view>

namespace comet::text {

struct SplitPattern {
  std::string_view name;
  std::string_view regex;  // exactly as tokenizer.json has it
  /// The end of the word that starts at `begin` (< text.size()); always > begin. `text` is valid
  /// UTF-8; its end counts as the end of the text for `\s+(?!\S)`.
  size_t (*word_end)(std::string_view text, size_t begin);
};

/// nullptr when no scanner for that expression is there.
const SplitPattern* find_split_pattern(std::string_view regex);

}  // namespace comet::text
