#include "comet/text/unicode/nfc.h"

#include <gtest/gtest.h>

#include "comet/text/unicode/utf8.h"

namespace comet::text {
namespace {

// What `tokenizers` 0.23.3 makes of the same.
TEST(Nfc, ComposesAndReorders) {
  EXPECT_EQ(to_nfc(""), "");
  EXPECT_EQ(to_nfc("plain \u00E9"), "plain \u00E9");
  EXPECT_EQ(to_nfc("e\u0301"), "\u00E9");
  EXPECT_EQ(to_nfc("a\u0301\u0323"), "\u1EA1\u0301");
  EXPECT_EQ(to_nfc("\u1112\u1161\u11AB"), "\uD55C");
  EXPECT_EQ(to_nfc("\u212B\u2126"), "\u00C5\u03A9");
  EXPECT_EQ(to_nfc("\u0958"), "\u0915\u093C");  // a composition exclusion
  EXPECT_EQ(to_nfc("\u0301a"), "\u0301a");
}

TEST(Nfc, MarksYoungerThanThePackagesTablesStayWhereTheyAre) {
  EXPECT_EQ(to_nfc("e\u0899\u0301"), "e\u0899\u0301");  // U+0899 is of Unicode 14
  EXPECT_EQ(to_nfc("\U00011935\U00011930"), "\U00011935\U00011930");
}

TEST(Nfc, LongRunsOfMarksTakeNoQuadraticTime) {
  std::string text = "a";
  for (int i = 0; i < 500'000; ++i) text += i % 2 == 0 ? "\u0301" : "\u0323";
  const std::string out = to_nfc(text);
  EXPECT_TRUE(is_valid_utf8(out));
  EXPECT_TRUE(out.starts_with("\u1EA1\u0323\u0323"));
  EXPECT_EQ(to_nfc(out), out);
}

}  // namespace
}  // namespace comet::text
