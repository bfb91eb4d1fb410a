#include "comet/text/unicode/utf8.h"

#include <gtest/gtest.h>

#include "comet/text/unicode/unicode_tables.h"

namespace comet::text {
namespace {

/// By the definition of UTF-8, without the decoder's tables.
std::string encoded(uint32_t c) {
  const auto byte = [](uint32_t value) { return static_cast<char>(value); };
  if (c < 0x80) return {byte(c)};
  if (c < 0x800) return {byte(0xC0 | c >> 6), byte(0x80 | (c & 0x3F))};
  if (c < 0x10000) {
    return {byte(0xE0 | c >> 12), byte(0x80 | (c >> 6 & 0x3F)), byte(0x80 | (c & 0x3F))};
  }
  return {byte(0xF0 | c >> 18), byte(0x80 | (c >> 12 & 0x3F)), byte(0x80 | (c >> 6 & 0x3F)),
          byte(0x80 | (c & 0x3F))};
}

bool is_surrogate(uint32_t c) { return c >= 0xD800 && c < 0xE000; }

TEST(Utf8, EveryCodePointIsReadFromBothSides) {
  for (uint32_t c = 0; c < kNumCodePoints; ++c) {
    const std::string bytes = encoded(c);
    ASSERT_EQ(is_valid_utf8(bytes), !is_surrogate(c)) << c;
    if (is_surrogate(c)) continue;
    const std::string text = "x" + bytes + "y";
    ASSERT_EQ(code_point_at(text, 1).value, c);
    ASSERT_EQ(code_point_at(text, 1).num_bytes, bytes.size());
    ASSERT_EQ(code_point_before(text, 1 + bytes.size()).value, c);
    ASSERT_EQ(code_point_before(text, 1 + bytes.size()).num_bytes, bytes.size());
  }
}

TEST(Utf8, ReplacesMaximalSubparts) {
  // Bytes, and how many U+FFFD Python's bytes.decode(errors='replace') makes of each '?'.
  const std::pair<std::string, std::string> cases[] = {
      {"", ""},
      {"abc", "abc"},
      {"\x80", "?"},
      {"\xC0\xAF", "??"},            // an overlong form
      {"\xE0\x80\xAF", "???"},       // an overlong form
      {"\xED\xA0\x80", "???"},       // a surrogate
      {"\xF4\x91\x92\x93", "????"},  // above U+10FFFF
      {"\xFF", "?"},
      {"\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", "????A"},  // Unicode 15, table 3-11
      {"\xF0\x9F\x98", "?"},                              // cut off
      {"a\xC3", "a?"},
      {"\xE2\x82\xAC\xE2\x82", "\xE2\x82\xAC?"},
      {std::string("\0\xC3\0", 3), std::string("\0?\0", 3)},
  };
  for (const auto& [bytes, marked] : cases) {
    std::string expected;
    for (const char c : marked) expected += c == '?' ? "\xEF\xBF\xBD" : std::string(1, c);
    EXPECT_EQ(replace_invalid_utf8(bytes), expected);
    EXPECT_EQ(is_valid_utf8(bytes), bytes == expected);
    EXPECT_TRUE(is_valid_utf8(expected));
  }
}

TEST(Utf8, TakesWhatIsDecidedAndKeepsTheRest) {
  std::string pending = "a\xF0\x9F\x98";
  EXPECT_EQ(take_complete_utf8(pending), "a");
  EXPECT_EQ(pending, "\xF0\x9F\x98");
  pending += "\x80\xE2";
  EXPECT_EQ(take_complete_utf8(pending), "\xF0\x9F\x98\x80");
  EXPECT_EQ(pending, "\xE2");
}

TEST(ClassOf, KnowsLettersNumbersSpacesAndWords) {
  EXPECT_EQ(class_of('a'), kLetter | kWord);
  EXPECT_EQ(class_of('7'), kNumber | kNumeric | kWord);
  EXPECT_EQ(class_of('_'), kPunctuation | kWord);
  EXPECT_EQ(class_of('!'), kPunctuation);
  EXPECT_EQ(class_of('\n'), kSpace);
  EXPECT_EQ(class_of(0x1C), 0);  // white space for Python's str, not here
  EXPECT_EQ(class_of(0x85), kSpace);
  EXPECT_EQ(class_of(0xA0), kSpace);
  EXPECT_EQ(class_of(0xBD), kNumber | kNumeric);  // one half: \p{No} is no \w
  EXPECT_EQ(class_of(0x301), kWord);              // combining acute
  EXPECT_EQ(class_of(0x3000), kSpace);
  EXPECT_EQ(class_of(0x200B), 0);  // zero-width space
  EXPECT_EQ(class_of(0x6F22), kLetter | kWord);
  EXPECT_EQ(class_of(0x1F600), 0);
  EXPECT_EQ(class_of(0x10FFFF), 0);
}

TEST(ClassOf, TheTablesAreInOrderAndAgree) {
  const auto runs = class_runs();
  EXPECT_EQ(runs.front() >> 8, 0U);
  for (size_t i = 1; i < runs.size(); ++i) EXPECT_LT(runs[i - 1] >> 8, runs[i] >> 8);
  EXPECT_LT(runs.back() >> 8, kNumCodePoints);
  uint32_t run_idx = 0;
  for (uint32_t c = 0; c < kNumCodePoints; ++c) {
    while (run_idx + 1 < runs.size() && runs[run_idx + 1] >> 8 <= c) ++run_idx;
    ASSERT_EQ(class_of(c), runs[run_idx] & 0xFF) << c;
  }
}

}  // namespace
}  // namespace comet::text
