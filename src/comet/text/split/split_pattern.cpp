#include "comet/text/split/split_pattern.h"

#include <algorithm>

#include "comet/text/split/regex_pattern.h"
#include "comet/text/split/word_scanners.h"
#include "comet/text/unicode/unicode_tables.h"
#include "comet/text/unicode/utf8.h"

namespace comet::text {
namespace {

using WordEnd = size_t (*)(std::string_view text, size_t begin);

/// An expression that matches at every place, as a scanner.
struct KnownPattern {
  std::string_view regex;  // exactly as tokenizer.json has it
  WordEnd word_end;
};

constexpr std::string_view kGpt2Regex =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

constexpr KnownPattern kKnownPatterns[] = {
    {kGpt2Regex, gpt2_word_end},
    // The order of the alternatives that GPT-2's authors published.
    {R"('(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)", gpt2_word_end},
    // LLaMA-3; the same as tiktoken's cl100k_base writes it.
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     llama3_word_end},
    {R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)",
     llama3_word_end},
    // Qwen2, Qwen2.5, Qwen3.
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     qwen2_word_end},
};

class ScannerPattern final : public SplitPattern {
 public:
  explicit ScannerPattern(WordEnd word_end) : word_end_(word_end) {}

  void find_spans(std::string_view text, std::vector<Span>& spans) const override {
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = word_end_(text, begin);
      spans.push_back({begin, end, true});
      begin = end;
    }
  }

 private:
  WordEnd word_end_;
};

class LiteralPattern final : public SplitPattern {
 public:
  explicit LiteralPattern(std::string literal) : literal_(std::move(literal)) {}

  void find_spans(std::string_view text, std::vector<Span>& spans) const override {
    for (size_t at = 0; at < text.size();) {
      const size_t match = std::min(text.find(literal_, at), text.size());
      if (match > at) spans.push_back({at, match, false});
      at = match;
      if (match == text.size()) break;
      at += literal_.size();
      spans.push_back({match, at, true});
    }
  }

 private:
  std::string literal_;
};

class ClassPattern final : public SplitPattern {
 public:
  explicit ClassPattern(uint8_t class_bits) : class_bits_(class_bits) {}

  void find_spans(std::string_view text, std::vector<Span>& spans) const override {
    size_t gap = 0;
    for (size_t at = 0; at < text.size();) {
      const CodePoint c = code_point_at(text, at);
      const size_t end = at + c.num_bytes;
      if ((class_of(c.value) & class_bits_) != 0) {
        if (at > gap) spans.push_back({gap, at, false});
        spans.push_back({at, end, true});
        gap = end;
      }
      at = end;
    }
    if (text.size() > gap) spans.push_back({gap, text.size(), false});
  }

 private:
  uint8_t class_bits_;
};

}  // namespace

Result<SplitPatternPtr> make_regex_pattern(std::string_view regex, std::string_view where) {
  for (const KnownPattern& known : kKnownPatterns) {
    if (known.regex == regex) {
      return SplitPatternPtr(std::make_shared<ScannerPattern>(known.word_end));
    }
  }
  return compile_regex_pattern(regex, where);
}

SplitPatternPtr make_literal_pattern(std::string literal) {
  COMET_CHECK(!literal.empty(), "an empty literal matches everywhere");
  return std::make_shared<LiteralPattern>(std::move(literal));
}

SplitPatternPtr make_class_pattern(uint8_t class_bits) {
  return std::make_shared<ClassPattern>(class_bits);
}

SplitPatternPtr gpt2_pattern() { return std::make_shared<ScannerPattern>(gpt2_word_end); }

}  // namespace comet::text
