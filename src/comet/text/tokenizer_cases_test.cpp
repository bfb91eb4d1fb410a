// The vocabulary regression set: each file of tests/data/tokenizer/cases holds a tokenizer.json,
// and what Python's `tokenizers` makes of texts and ids with it (tools/make_tokenizer_cases.py). A
// case more is a file more.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "comet/base/json.h"
#include "comet/text/stream_decoder.h"
#include "comet/text/tokenizer.h"

namespace comet::text {
namespace {

using Ids = std::vector<int32_t>;

const std::string kFolder = COMET_SOURCE_DIR "/tests/data/tokenizer/cases";

std::vector<std::string> case_names() {
  std::vector<std::string> names;
  for (const auto& file : std::filesystem::directory_iterator(kFolder)) {
    if (file.path().extension() == ".json") names.push_back(file.path().stem());
  }
  std::sort(names.begin(), names.end());
  return names;
}

class TokenizerCase : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    std::ifstream file(kFolder + "/" + GetParam() + ".json", std::ios::binary);
    case_ = Json::parse(std::string(std::istreambuf_iterator<char>(file), {}));
    const Result<Tokenizer> read = Tokenizer::from_json(case_["tokenizer"].dump(), GetParam());
    ASSERT_TRUE(read.ok()) << read.error().message;
    tokenizer_ = *read;
  }

  Json case_;
  std::optional<Tokenizer> tokenizer_;
};

TEST_P(TokenizerCase, EncodesLikePython) {
  ASSERT_GE(case_["encode"].size(), 50U);
  for (const Json& row : case_["encode"]) {
    const int flags = row[0].get<int>();
    const Ids ids = tokenizer_->encode(
        row[1].get<std::string>(),
        {.add_special_tokens = (flags & 1) != 0, .parse_special = (flags & 2) != 0});
    EXPECT_EQ(ids, row[2].get<Ids>()) << row;
  }
}

TEST_P(TokenizerCase, DecodesLikePython) {
  ASSERT_GE(case_["decode"].size(), 20U);
  for (const Json& row : case_["decode"]) {
    EXPECT_EQ(tokenizer_->decode(row[0].get<Ids>(), false), row[1].get<std::string>()) << row;
    EXPECT_EQ(tokenizer_->decode(row[0].get<Ids>(), true), row[2].get<std::string>()) << row;
  }
}

TEST_P(TokenizerCase, StreamsWhatDecodeGivesForEncodedText) {
  for (const Json& row : case_["encode"]) {
    const Ids ids = row[2].get<Ids>();
    StreamDecoder decoder(*tokenizer_, false);
    std::string text;
    for (const int32_t id : ids) text += decoder.push(id);
    text += decoder.flush();
    EXPECT_EQ(text, tokenizer_->decode(ids, false)) << row;
  }
}

INSTANTIATE_TEST_SUITE_P(Files, TokenizerCase, testing::ValuesIn(case_names()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace comet::text
