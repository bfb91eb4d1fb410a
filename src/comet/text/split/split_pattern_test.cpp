#include "comet/text/split/split_pattern.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "comet/text/unicode/unicode_tables.h"
#include "support/tiny_tokenizer.h"

namespace comet::text {
namespace {

using Words = std::vector<std::string>;

SplitPatternPtr llama3() {
  const Json file = test::tiny_tokenizer_json();
  const Json& split = file["pre_tokenizer"]["pretokenizers"][0];
  return make_regex_pattern(split["pattern"]["Regex"].get<std::string>(), "x").value();
}

/// The spans of `text`, matches or not; they must cover it.
Words split_by(const SplitPattern& pattern, const std::string& text) {
  std::vector<Span> spans;
  pattern.find_spans(text, spans);
  Words words;
  size_t covered = 0;
  for (const Span& span : spans) {
    EXPECT_EQ(span.begin, covered);
    covered = span.end;
    if (span.end > span.begin) words.push_back(text.substr(span.begin, span.end - span.begin));
  }
  EXPECT_EQ(covered, text.size());
  return words;
}

Words split(const std::string& text) { return split_by(*llama3(), text); }

Words split_gpt2(const std::string& text) { return split_by(*gpt2_pattern(), text); }

// What `tokenizers` 0.23.3 makes of each text.
TEST(Llama3Words, Contractions) {
  EXPECT_EQ(split("I'm"), (Words{"I", "'m"}));
  EXPECT_EQ(split("they'LLgo"), (Words{"they", "'LL", "go"}));
  EXPECT_EQ(split("'s's"), (Words{"'s", "'s"}));
  EXPECT_EQ(split("'rev"), (Words{"'re", "v"}));
  EXPECT_EQ(split("'K"), (Words{"'K"}));
  EXPECT_EQ(split("'\u017Ft"), (Words{"'\u017F", "t"}));  // long s folds to s
  EXPECT_EQ(split("'\uFB06z"), (Words{"'\uFB06z"}));      // the ligature st does not
  EXPECT_EQ(split("'l l"), (Words{"'l", " l"}));
  EXPECT_EQ(split("'"), (Words{"'"}));
  EXPECT_EQ(split("'r"), (Words{"'r"}));
}

TEST(Llama3Words, LettersTakeOneCharacterBefore) {
  EXPECT_EQ(split("Hello world"), (Words{"Hello", " world"}));
  EXPECT_EQ(split("(a)"), (Words{"(a", ")"}));
  EXPECT_EQ(split("((a"), (Words{"((", "a"}));
  EXPECT_EQ(split("\ta\nb"), (Words{"\ta", "\n", "b"}));
  EXPECT_EQ(split("a\u0301b"), (Words{"a", "\u0301b"}));
  EXPECT_EQ(split("\u200Bx"), (Words{"\u200Bx"}));
  EXPECT_EQ(split("7a"), (Words{"7", "a"}));
}

TEST(Llama3Words, NumbersComeInThrees) {
  EXPECT_EQ(split("1234567"), (Words{"123", "456", "7"}));
  EXPECT_EQ(split(" 12"), (Words{" ", "12"}));
  EXPECT_EQ(split("\u0661\u0662\u0663\u0664"), (Words{"\u0661\u0662\u0663", "\u0664"}));
}

TEST(Llama3Words, PunctuationTakesABlankBeforeAndLineBreaksBehind) {
  EXPECT_EQ(split("a ...b"), (Words{"a", " ...", "b"}));
  EXPECT_EQ(split("!!\n\n a"), (Words{"!!\n\n", " a"}));
  EXPECT_EQ(split("\t!"), (Words{"\t", "!"}));
  EXPECT_EQ(split(std::string("x\x1C\x1D y")), (Words{"x", "\x1C\x1D", " y"}));
}

TEST(Llama3Words, WhiteSpace) {
  EXPECT_EQ(split("  \n\n  x"), (Words{"  \n\n", " ", " x"}));
  EXPECT_EQ(split("a   "), (Words{"a", "   "}));
  EXPECT_EQ(split("   1"), (Words{"  ", " ", "1"}));
  EXPECT_EQ(split("\r\n\r\n"), (Words{"\r\n\r\n"}));
  EXPECT_EQ(split("\u00A0\u00A0x"), (Words{"\u00A0", "\u00A0x"}));
  EXPECT_EQ(split("\u2028\u2028"), (Words{"\u2028\u2028"}));
}

TEST(Gpt2Words, BlanksBelongToTheWordBehind) {
  EXPECT_EQ(split_gpt2("Hello  world 12a"), (Words{"Hello", " ", " world", " 12", "a"}));
  EXPECT_EQ(split_gpt2("a\n\nb"), (Words{"a", "\n", "\n", "b"}));
  EXPECT_EQ(split_gpt2("x  "), (Words{"x", "  "}));
  EXPECT_EQ(split_gpt2(" !?("), (Words{" !?("}));
  EXPECT_EQ(split_gpt2("1234567"), (Words{"1234567"}));
}

TEST(Gpt2Words, ContractionsAreLowerCaseOnly) {
  EXPECT_EQ(split_gpt2("I'm he'LL we're"), (Words{"I", "'m", " he", "'", "LL", " we", "'re"}));
  EXPECT_EQ(split_gpt2("'s's 's"), (Words{"'s", "'s", " '", "s"}));
}

TEST(SplitPattern, LiteralsAndClasses) {
  EXPECT_EQ(split_by(*make_literal_pattern("ab"), "xababyab"), (Words{"x", "ab", "ab", "y", "ab"}));
  EXPECT_EQ(split_by(*make_class_pattern(kNumeric), "a12\u00BDb"),
            (Words{"a", "1", "2", "\u00BD", "b"}));
  EXPECT_EQ(split_by(*make_class_pattern(kPunctuation), "a,b"), (Words{"a", ",", "b"}));
}

}  // namespace
}  // namespace comet::text
