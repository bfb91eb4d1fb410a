#include "comet/text/split/regex_pattern.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "comet/text/split/oniguruma_syntax.h"
#include "comet/text/split/word_scanners.h"
#include "comet/text/unicode/utf8.h"

namespace comet::text {
namespace {

using Words = std::vector<std::string>;

/// The matches in brackets and what lies between them.
std::string marked(const std::string& regex, const std::string& text) {
  const Result<SplitPatternPtr> pattern = compile_regex_pattern(regex, "x");
  EXPECT_TRUE(pattern.ok()) << pattern.error().message;
  std::vector<Span> spans;
  (*pattern)->find_spans(text, spans);
  std::string out;
  size_t covered = 0;
  for (const Span& span : spans) {
    EXPECT_EQ(span.begin, covered);
    covered = span.end;
    const std::string part = text.substr(span.begin, span.end - span.begin);
    out += span.is_match ? "[" + part + "]" : part;
  }
  EXPECT_EQ(covered, text.size());
  return out;
}

size_t num_spans(const std::string& regex, const std::string& text) {
  std::vector<Span> spans;
  compile_regex_pattern(regex, "x").value()->find_spans(text, spans);
  return spans.size();
}

// What `tokenizers` 0.23.3 makes of the same.
TEST(RegexPattern, FindsWhatOnigurumaFinds) {
  EXPECT_EQ(marked("[0-9]{2}", "a123b45"), "a[12]3b[45]");
  EXPECT_EQ(marked(R"(\s)", "a\u180Eb\u3000c"), "a\u180Eb[\u3000]c");  // Mongolian separator
  EXPECT_EQ(marked(R"(\w+)", "na\u00EFve \u2460\u00B2_x!"), "[na\u00EFve] \u2460[\u00B2_x]!");
  EXPECT_EQ(marked("^a$", "a\na\nb"), "[a]\n[a]\nb");
  EXPECT_EQ(marked("(?i:k)", "kK\u212A"), "[k][K][\u212A]");
  EXPECT_EQ(marked(R"(\p{Han}+)", "a\u6F22\u5B57\u3001b"), "a[\u6F22\u5B57]\u3001b");
  EXPECT_EQ(marked(R"((?<=a)b)", "abb"), "a[b]b");
  EXPECT_EQ(marked(R"(\u0061\x{62})", "abab"), "[ab][ab]");
  EXPECT_EQ(marked("x*", "axxb"), "[]a[xx]b[]");
}

TEST(RegexPattern, KnowsCodePointsThatAreYoungerThanTheLibrary) {
  // U+1C89 (Unicode 16) is a capital letter, U+10D40 a digit.
  EXPECT_EQ(marked(R"(\p{Lu})", "a\u1C89"), "a[\u1C89]");
  EXPECT_EQ(marked(R"(\p{Nd}+)", "7\U00010D40x"), "[7\U00010D40]x");
}

TEST(RegexPattern, EqualsTheScannersOnLongRuns) {
  const std::string gpt2 =
      R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
  for (const char* unit : {"a", " ", "1", ".", "\n ", "\u6F22", "x  y", "'s", " \u00E9"}) {
    std::string text;
    while (text.size() < 3000) text += unit;
    text += "end";
    std::vector<Span> spans;
    compile_regex_pattern(gpt2, "x").value()->find_spans(text, spans);
    size_t begin = 0;
    for (const Span& span : spans) {
      EXPECT_EQ(span.begin, begin);
      begin = gpt2_word_end(text, begin);
      EXPECT_EQ(span.end, begin) << unit;
    }
    EXPECT_EQ(begin, text.size());
  }
}

TEST(RegexPattern, HostileExpressionsEnd) {
  const std::string text = std::string(200'000, 'a') + "c";
  EXPECT_EQ(num_spans("(a+)+$", text + "b"), 1U);  // gives up: one stretch without a match
  EXPECT_EQ(num_spans("(a|aa)+b", text), 1U);
  EXPECT_EQ(num_spans("a*b|b", text), 1U);
  EXPECT_GE(num_spans("(?=(a+))a{1,3}", text), 1U);
  EXPECT_GE(num_spans("(?:a?){64}a{64}", text), 1U);
  EXPECT_GE(num_spans("()", text), 100'000U);
}

TEST(RegexPattern, RefusesWhatTheEnginesReadDifferently) {
  for (const char* regex : {R"(\b)",
                            R"(\h)",
                            R"(\v)",
                            R"(\R)",
                            R"(\X)",
                            R"(\K)",
                            R"(\1)",
                            R"(\G)",
                            R"(\x41)",
                            R"(\)",
                            "[a&&b]",
                            "[[:alpha:]]",
                            "[[a]]",
                            "[]a]",
                            R"([\W])",
                            "a{,3}",
                            "a{2}+",
                            "a{2}?",
                            "{",
                            "(?<n>a)",
                            "(?m:a)",
                            "(?~a)",
                            "(*FAIL)",
                            "a(?i)b",
                            R"((?i:\p{Lu}))",
                            R"(\p{L)",
                            R"(\pL)",
                            R"(\p{Bad Name})",
                            R"(\p{sc=Han})",
                            R"(\u12)",
                            R"(\x{1234567})"}) {
    const Result<std::string> translated = pcre2_syntax(regex);
    EXPECT_FALSE(translated.ok()) << regex;
    const Result<SplitPatternPtr> pattern = compile_regex_pattern(regex, "file: pattern");
    ASSERT_FALSE(pattern.ok());
    EXPECT_EQ(pattern.error().code, ErrorCode::kUnsupported);
    EXPECT_TRUE(pattern.error().message.starts_with("file: pattern")) << pattern.error().message;
  }
}

TEST(RegexPattern, RefusesWhatDoesNotCompileOrIsTooLarge) {
  for (const std::string& regex :
       {std::string("("), std::string("a)"), std::string("[a"), std::string(R"(\p{NoScript})"),
        std::string("*"), std::string(5000, 'a'), std::string(100, '(') + std::string(100, ')'),
        std::string("((a{1,60000}){1,60000}){1,60000}"), std::string("(?<=a+)b")}) {
    EXPECT_FALSE(compile_regex_pattern(regex, "x").ok()) << regex;
  }
}

}  // namespace
}  // namespace comet::text
