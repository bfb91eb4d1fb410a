#include "comet/text/tokenizer.h"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>

#include "comet/base/json.h"
#include "comet/base/rng.h"
#include "support/tiny_tokenizer.h"

namespace comet::text {
namespace {

using Ids = std::vector<int32_t>;

constexpr size_t kLongBytes = 2'000'000;

std::string source_file(const std::string& name) {
  std::ifstream file(std::string(COMET_SOURCE_DIR) + "/" + name, std::ios::binary);
  EXPECT_TRUE(file) << name;
  return {std::istreambuf_iterator<char>(file), {}};
}

Tokenizer tokenizer_of(const std::string& json) {
  return Tokenizer::from_json(json, "tokenizer.json").value();
}

const Tokenizer& demo() {
  static const Tokenizer tokenizer = tokenizer_of(source_file("models/demo/tokenizer.json"));
  return tokenizer;
}

const Json& goldens() {
  static const Json json =
      parse_json(source_file("tests/data/tokenizer/demo_goldens.json"), "demo_goldens.json")
          .value();
  return json;
}

EncodeOptions options_of(int flags) {
  return {.add_special_tokens = (flags & 1) != 0, .parse_special = (flags & 2) != 0};
}

/// Rows of [flags, text, ids].
void expect_encoded(const Tokenizer& tokenizer, const Json& rows) {
  ASSERT_GE(rows.size(), 100U);
  for (const Json& row : rows) {
    const auto text = row[1].get<std::string>();
    EXPECT_EQ(tokenizer.encode(text, options_of(row[0].get<int>())), row[2].get<Ids>()) << row;
  }
}

std::string from_hex(const std::string& hex) {
  std::string bytes;
  for (size_t i = 0; i < hex.size(); i += 2) {
    bytes.push_back(static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

TEST(Tokenizer, EncodesLikePython) { expect_encoded(demo(), goldens()["encode"]); }

TEST(Tokenizer, EncodesBytesThatAreNotUtf8LikePythonsReplacement) {
  ASSERT_GE(goldens()["encode_bytes"].size(), 100U);
  for (const Json& row : goldens()["encode_bytes"]) {
    EXPECT_EQ(demo().encode(from_hex(row[0].get<std::string>())), row[1].get<Ids>()) << row;
  }
}

TEST(Tokenizer, DecodesLikePython) {
  ASSERT_GE(goldens()["decode"].size(), 100U);
  for (const Json& row : goldens()["decode"]) {
    EXPECT_EQ(demo().decode(row[0].get<Ids>(), false), row[1].get<std::string>()) << row;
    EXPECT_EQ(demo().decode(row[0].get<Ids>(), true), row[2].get<std::string>()) << row;
  }
}

TEST(Tokenizer, StripsAndBoundsAddedTokensLikePython) {
  Json file = Json::parse(source_file("models/demo/tokenizer.json"));
  for (const Json& token : goldens()["added_tokens"]) file["added_tokens"].push_back(token);
  file["model"]["ignore_merges"] = true;
  expect_encoded(tokenizer_of(file.dump()), goldens()["encode_with_added_tokens"]);
}

TEST(Tokenizer, ReadsMergesOfTheOldSpelling) {
  Json file = Json::parse(source_file("models/demo/tokenizer.json"));
  for (Json& merge : file["model"]["merges"]) {
    merge = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
  }
  expect_encoded(tokenizer_of(file.dump()), goldens()["encode"]);
}

TEST(Tokenizer, DecodingEncodedTextGivesTheText) {
  for (const Json& row : goldens()["encode"]) {
    const auto text = row[1].get<std::string>();
    const EncodeOptions plain{.add_special_tokens = false, .parse_special = false};
    EXPECT_EQ(demo().decode(demo().encode(text, plain), true), text);
    const EncodeOptions special{.add_special_tokens = false, .parse_special = true};
    EXPECT_EQ(demo().decode(demo().encode(text, special), false), text);
  }
  const std::string heldout = source_file("models/demo/heldout.txt");
  EXPECT_EQ(demo().decode(demo().encode(heldout), true), heldout);
}

TEST(Tokenizer, LongRunsComeBackWhole) {
  for (const char* unit :
       {"a", "e", " ", "\n", ".", "'", "<", "1", "the ", "\xE6\xBC\xA2", " \n"}) {
    std::string text;
    while (text.size() < kLongBytes) text += unit;
    const Ids ids = demo().encode(text);
    EXPECT_LE(ids.size(), text.size() + 1);
    EXPECT_EQ(demo().decode(ids, true), text) << "unit '" << unit << "'";
  }
}

TEST(Tokenizer, OneLongWordOfRandomLettersComesBackWhole) {
  Rng rng(3);
  std::string text(kLongBytes, '\0');
  for (char& c : text) c = static_cast<char>('a' + rng.next_below(26));
  EXPECT_EQ(demo().decode(demo().encode(text), true), text);
}

TEST(Tokenizer, LongRunsOfBadBytesBecomeReplacementCharacters) {
  const std::string text(1000, '\xFF');
  std::string expected;
  for (size_t i = 0; i < text.size(); ++i) expected += "\xEF\xBF\xBD";
  EXPECT_EQ(demo().decode(demo().encode(text), true), expected);
}

TEST(Tokenizer, OptionsSayWhatIsSpecial) {
  const Tokenizer tiny = tokenizer_of(test::tiny_tokenizer_json().dump());
  EXPECT_EQ(tiny.encode("hello"), (Ids{261, 259}));
  EXPECT_EQ(tiny.encode("hello", {.add_special_tokens = false}), (Ids{259}));
  EXPECT_EQ(tiny.encode("hello w</s>"), (Ids{261, 259, 260, 262}));
  EXPECT_EQ(tiny.encode("h</s>", options_of(0)), (Ids{'h', '<', '/', 's', '>'}));
  EXPECT_EQ(tiny.encode(""), (Ids{261}));
  EXPECT_EQ(tiny.encode("", options_of(0)), Ids{});
}

TEST(Tokenizer, TemplatesMayAddTokensOnBothSides) {
  Json file = test::tiny_tokenizer_json();
  Json& processor = file["post_processor"];
  processor["single"].push_back({{"SpecialToken", {{"id", "end"}, {"type_id", 0}}}});
  processor["special_tokens"]["end"] = {
      {"id", "end"}, {"ids", {262, 261}}, {"tokens", Json::array()}};
  EXPECT_EQ(tokenizer_of(file.dump()).encode("hello"), (Ids{261, 259, 262, 261}));
  file["post_processor"] = nullptr;
  EXPECT_EQ(tokenizer_of(file.dump()).encode("hello"), (Ids{259}));
}

TEST(Tokenizer, IgnoreMergesTakesWholeWordsFirst) {
  Json file = test::tiny_tokenizer_json();
  file["model"]["vocab"]["hex"] = 263;
  EXPECT_EQ(tokenizer_of(file.dump()).encode("hex", options_of(0)), (Ids{256, 'x'}));
  file["model"]["ignore_merges"] = true;
  EXPECT_EQ(tokenizer_of(file.dump()).encode("hex", options_of(0)), (Ids{263}));
}

TEST(Tokenizer, KnowsItsTokens) {
  EXPECT_EQ(demo().vocab_size(), 8192);
  EXPECT_EQ(demo().token_id("<|begin_of_text|>"), 8176);
  EXPECT_EQ(demo().token_id("no such token"), std::nullopt);
  const std::optional<int32_t> the = demo().token_id("\xC4\xA0the");  // U+0120 stands for a blank
  ASSERT_TRUE(the);
  EXPECT_EQ(demo().token_bytes(*the), " the");
  EXPECT_FALSE(demo().is_special(*the));
  EXPECT_TRUE(demo().is_special(8176));
  for (const int32_t id : {-1, 8192, INT32_MAX, INT32_MIN}) {
    EXPECT_EQ(demo().token_bytes(id), "");
    EXPECT_FALSE(demo().is_special(id));
  }
  EXPECT_EQ(demo().decode(Ids{-1, 8192, *the, INT32_MIN}, false), " the");
}

TEST(Tokenizer, IdsMayHaveHoles) {
  Json file = test::tiny_tokenizer_json();
  file["added_tokens"][1]["id"] = 1000;
  const Tokenizer tokenizer = tokenizer_of(file.dump());
  EXPECT_EQ(tokenizer.vocab_size(), 1001);
  EXPECT_EQ(tokenizer.token_bytes(500), "");
  EXPECT_EQ(tokenizer.token_bytes(261), "<s>");
  EXPECT_EQ(tokenizer.token_bytes(1000), "</s>");
  EXPECT_FALSE(tokenizer.is_special(999));
  EXPECT_TRUE(tokenizer.is_special(1000));
}

TEST(Tokenizer, OneLongWordOfCharactersTakesNoQuadraticTime) {
  const Json file = Json::parse(source_file("tests/data/tokenizer/cases/llama2.json"))["tokenizer"];
  const Tokenizer llama2 = tokenizer_of(file.dump());
  for (const char* unit : {"a", " ", "the cat ", "\xE6\xBC\xA2", "\n"}) {
    std::string text = "x";  // the decoder strips a blank at the start
    while (text.size() < kLongBytes / 4) text += unit;
    EXPECT_EQ(llama2.decode(llama2.encode(text), true), text) << unit;
  }
}

TEST(Tokenizer, CopiesShareTheTokensAndOutliveTheOriginal) {
  std::optional<Tokenizer> original = tokenizer_of(test::tiny_tokenizer_json().dump());
  const Tokenizer copy = *original;
  original.reset();
  EXPECT_EQ(copy.decode(copy.encode("hello w"), true), "hello w");
}

}  // namespace
}  // namespace comet::text
