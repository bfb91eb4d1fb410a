#include "comet/text/bpe/split_pattern.h"

#include "comet/text/bpe/llama3_words.h"

namespace comet::text {
namespace {

constexpr SplitPattern kSplitPatterns[] = {
    {"llama3",
     R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     llama3_word_end},
};

}  // namespace

const SplitPattern* find_split_pattern(std::string_view regex) {
  for (const SplitPattern& pattern : kSplitPatterns) {
    if (pattern.regex == regex) return &pattern;
  }
  return nullptr;
}

}  // namespace comet::text
