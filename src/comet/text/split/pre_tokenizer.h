// Pre-tokenization: the stages of a tokenizer.json's `pre_tokenizer`, which cut a piece of text
// into the words that BPE merges, one after the other. Caller: Tokenizer::encode.
#pragma once

#include <deque>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "comet/text/split/split_pattern.h"

namespace comet::text {

/// What becomes of the matches: as the file's `behavior` names it.
enum class SplitBehavior {
  kRemoved,
  kIsolated,
  kMergedWithPrevious,
  kMergedWithNext,
  kContiguous,
};

struct SplitStage {
  SplitPatternPtr pattern;
  SplitBehavior behavior = SplitBehavior::kIsolated;
  bool invert = false;  // what does not match counts as the match
};

/// Puts `prefix` before a word that does not start with it.
struct PrefixStage {
  std::string prefix;
  bool only_first = false;  // only before the very start of the text
};

struct ReplaceStage {
  std::string from;  // never empty
  std::string to;
};

/// Writes each byte as its byte-level character (byte_level.h), for stages behind a ByteLevel; or
/// the characters as bytes again, for the model.
struct SpellBytesStage {
  bool back = false;
};

using PreTokenizerStage = std::variant<SplitStage, PrefixStage, ReplaceStage, SpellBytesStage>;

/// A word, never empty.
struct Word {
  std::string_view text;
  bool is_first = false;  // it starts where the whole text starts
};

class PreTokenizer {
 public:
  PreTokenizer() = default;
  explicit PreTokenizer(std::vector<PreTokenizerStage> stages) : stages_(std::move(stages)) {}

  /// The words of `piece` (valid UTF-8). They point into `piece` or into strings added to
  /// `storage`. Valid UTF-8, unless the stages end with bytes.
  [[nodiscard]] std::vector<Word> words(Word piece, std::deque<std::string>& storage) const;

 private:
  std::vector<PreTokenizerStage> stages_;
};

}  // namespace comet::text
