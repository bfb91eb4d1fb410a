#include <gtest/gtest.h>

#include "comet/study/tasks/data/gunzip.h"
#include "comet/study/tasks/data/python_random.h"
#include "comet/study/tasks/data/python_text.h"
#include "comet/study/tasks/data/rows.h"
#include "support/temporary_folder.h"

namespace comet::study {
namespace {

using ::comet::testing::TemporaryFolder;

// Every number of these tests was printed by CPython 3.11.
TEST(PythonRandom, IsPythonsOwn) {
  PythonRandom random(1234);
  using List = std::vector<int64_t>;
  EXPECT_EQ(random.sample(64, 5), (List{56, 14, 0, 11, 4}));
  EXPECT_EQ(random.sample(64, 5), (List{10, 12, 45, 30, 2}));
  EXPECT_EQ(random.sample(570, 3), (List{31, 16, 354}));
  EXPECT_EQ(random.sample(100, 12), (List{82, 79, 61, 78, 59, 19, 11, 23, 91, 14, 1, 64}));
  EXPECT_EQ(random.uniform(), 0.48675154060475834);
  EXPECT_TRUE(random.sample(3, 0).empty());
  EXPECT_EQ(random.sample(1, 1), List{0});
}

TEST(PythonText, IsPythonsOwn) {
  EXPECT_EQ(python_strip(" \t\xC2\xA0 a b\xE3\x80\x80\n"), "a b");
  EXPECT_EQ(python_strip(" \n "), "");
  EXPECT_EQ(python_rstrip("a \x1C"), "a");
  EXPECT_EQ(python_rstrip("a\xE2\x80\x8B"), "a\xE2\x80\x8B");  // U+200B is no white space
  EXPECT_EQ(python_capitalize("\xC3\xA9T\xC3\x89 A"), "\xC3\x89t\xC3\xA9 a");
  EXPECT_EQ(python_capitalize(""), "");
  EXPECT_EQ(python_length("a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80"), 4);
  EXPECT_EQ(replace_all("a  b   c", "  ", " "), "a b  c");
}

/// A literal with zeros inside.
template <size_t kSize>
std::string bytes(const char (&literal)[kSize]) {
  return {literal, kSize - 1};
}

// Files of zlib 1.2.13: a fixed and a dynamic code, a stored block, a header with a name.
const std::string kFixed = bytes(
    "\x1f\x8b\x08\x08\x00\x00\x00\x00\x00\x03name\x00\xab\x56\x4a\x54\xb2\x52\x30\xac\xe5\xaa\x1e"
    "\x65\xd0\x96\x91\x04\x64\x28\x1d\x5e\xa9\x54\xcb\x05\x00\xcf\xf2\x25\x74\x74\x01\x00\x00");
const std::string kStored = bytes(
    "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x01\x06\x00\xf9\xff\x73\x74\x6f\x72\x65\x64\x0b\xf9"
    "\x43\x56\x06\x00\x00\x00");
const std::string kDynamic = bytes(
    "\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xed\xca\xb1\x11\x00\x30\x08\x02\xc0\x59"
    "\xf1\x50\x51\xf6\xef\xdd\x22\x55\xbe\x7e\xa8\x97\x88\xf4\x9a\x70\x28\x73\x18\x14"
    "\x59\x9e\x81\xaa\xf1\xc3\xcb\x70\x32\x73\x29\xa7\x90\x01\x00\x00");

std::string fixed_content() {
  std::string text;
  for (int i = 0; i < 40; ++i) text += "{\"a\": 1}\n";
  return text + "{\"b\": \"\xC3\xA9\"}\n";
}

TEST(Gunzip, ReadsEveryKindOfBlock) {
  EXPECT_EQ(gunzip(kFixed, "f", 1 << 20).value(), fixed_content());
  EXPECT_EQ(gunzip(kStored, "f", 1 << 20).value(), "stored");
  std::string expected;
  for (int i = 0; i < 400; ++i) expected += static_cast<char>('a' + (i * i * 7 + i / 3) % 11);
  EXPECT_EQ(gunzip(kDynamic, "f", 1 << 20).value(), expected);
}

TEST(Gunzip, RefusesWhatIsCutOrChangedOrTooLarge) {
  for (const std::string& good : {kFixed, kStored, kDynamic}) {
    for (size_t length = 0; length < good.size(); ++length) {
      EXPECT_FALSE(gunzip(good.substr(0, length), "f", 1 << 20).ok()) << length;
    }
    for (size_t i = 0; i < good.size(); ++i) {
      std::string changed = good;
      changed[i] = static_cast<char>(changed[i] ^ 0x41);
      const auto result = gunzip(changed, "f", 1 << 20);  // flags and times are not checked
      if (i >= 10 && i != 10 + 4) {
        EXPECT_FALSE(result.ok() && good != kFixed) << i;
      }
    }
    EXPECT_FALSE(gunzip(good, "f", 5).ok());
  }
  EXPECT_EQ(gunzip("text", "a.gz", 9).error().message,
            "a.gz: cannot be decompressed: it is not gzip");
}

std::string message_of(const TemporaryFolder& folder, std::string_view name,
                       std::string_view content) {
  const auto rows = read_rows(folder.write(name, content));
  if (rows) return "";
  const std::string message = rows.error().message;
  return message.starts_with(folder.path()) ? message.substr(folder.path().size() + 1) : message;
}

TEST(ReadRows, ReadsLinesArraysAndTables) {
  const TemporaryFolder folder;
  const auto lines =
      read_rows(folder.write("a.jsonl", "{\"b\": 1, \"a\": true}\r\n\n{\"b\": \"2\"}"));
  ASSERT_EQ(lines.value().size(), 2U);
  EXPECT_EQ((*lines)[0].index("b", 5).value(), 1);
  EXPECT_EQ((*lines)[0].index("a", 1).value(), 1);
  EXPECT_EQ((*lines)[1].index("b", 5).value(), 2);
  EXPECT_EQ((*lines)[1].source(), folder.file("a.jsonl") + ":3");
  const auto array = read_rows(folder.write("a.json", " [{\"x\": [\"p\", \"q\"]}]"));
  EXPECT_EQ(array.value()[0].texts("x").value(), (std::vector<std::string>{"p", "q"}));
  const auto table = read_rows(
      folder.write("a.csv", "question,choice0,answer\n\"two\nlines, \"\"so\"\"\",x,1\r\nb,c,0\n"));
  ASSERT_EQ(table.value().size(), 2U);
  EXPECT_EQ((*table)[0].text("question").value(), "two\nlines, \"so\"");
  EXPECT_EQ((*table)[1].source(), folder.file("a.csv") + ":4");
  const auto bare = read_rows(folder.write("b.csv", "why,1,2,3,4,C\n"));
  EXPECT_EQ(bare.value()[0].text("answer").value(), "C");
  const auto packed = read_rows(folder.write("a.jsonl.gz", kFixed));
  EXPECT_EQ(packed.value().size(), 41U);
}

TEST(ReadRows, LabelsStandInAFileBeside) {
  const TemporaryFolder folder;
  const std::string path = folder.write("v.jsonl", "{\"a\": 1}\n{\"a\": 2}\n");
  folder.write("v-labels.lst", "1\n0\n");
  EXPECT_EQ(read_rows(path).value()[1].index("label", 1).value(), 0);
  folder.write("v-labels.lst", "1\n");
  EXPECT_EQ(read_rows(path).error().message,
            folder.file("v-labels.lst") + ": 1 lines for the 2 rows of " + path);
}

TEST(ReadRows, ErrorsNameFileAndLine) {
  const TemporaryFolder folder;
  EXPECT_TRUE(message_of(folder, "a.jsonl", "{\"a\": 1}\n{\"a\": \n")
                  .starts_with("a.jsonl:2: not valid JSON"));
  EXPECT_EQ(message_of(folder, "a.jsonl", "{}\n\n3\n"),
            "a.jsonl:3: expected a JSON object, got number");
  EXPECT_EQ(message_of(folder, "a.jsonl", "\n"), "a.jsonl: the file has no row");
  EXPECT_EQ(message_of(folder, "a.csv", "question,x\na,b\nc\n"), "a.csv:3: 1 columns, expected 2");
  EXPECT_EQ(message_of(folder, "a.jsonl",
                       "{\"a\":" + std::string(100, '[') + std::string(100, ']') + "}"),
            "a.jsonl:1: JSON nested deeper than 32 levels");
  const DataRow row(OrderedJson::parse(R"({"a": [1], "n": -1, "big": 18446744073709551615})"),
                    "f:7");
  EXPECT_EQ(row.text("b").error().message, "f:7: no field 'b'; expected a text");
  EXPECT_EQ(row.texts("a").error().message, "f:7: field 'a' is [1]; expected a list of texts");
  EXPECT_EQ(row.index("n", 3).error().message,
            "f:7: field 'n' is -1; expected a number from 0 to 3");
  EXPECT_FALSE(row.index("big", 3).ok());
  EXPECT_FALSE(row.objects("a").ok());
  EXPECT_FALSE(row.object("a").ok());
}

}  // namespace
}  // namespace comet::study
