// Patterns that cut text before BPE: hand-written linear scanners for the regular expressions that
// checkpoints use, PCRE2 with limits for any other, literals and character classes. A further known
// expression is a scanner and a row in the table of split_pattern.cpp. Caller: PreTokenizer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "comet/base/result.h"

namespace comet::text {

/// A stretch of a text: a match of the pattern, or what lies between two matches.
struct Span {
  size_t begin;
  size_t end;  // a match may be empty
  bool is_match;
};

class SplitPattern {
 public:
  virtual ~SplitPattern() = default;
  /// Appends the spans of `text` (valid UTF-8, not empty): in order, they cover it.
  virtual void find_spans(std::string_view text, std::vector<Span>& spans) const = 0;
};

using SplitPatternPtr = std::shared_ptr<const SplitPattern>;

/// `regex` as tokenizer.json has it: in Oniguruma's syntax, which is what `tokenizers` runs.
/// `where` names its place and opens every error.
Result<SplitPatternPtr> make_regex_pattern(std::string_view regex, std::string_view where);

/// Every occurrence of `literal` (not empty).
SplitPatternPtr make_literal_pattern(std::string literal);

/// Every single character with one of the bits (unicode_tables.h).
SplitPatternPtr make_class_pattern(uint8_t class_bits);

/// The expression of the ByteLevel pre-tokenizer with use_regex: GPT-2's.
SplitPatternPtr gpt2_pattern();

}  // namespace comet::text
