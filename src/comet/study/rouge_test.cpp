#include "comet/study/rouge.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "comet/base/json.h"

namespace comet::study {
namespace {

TEST(Rouge, EqualsThePythonPackage) {
  const std::string path = COMET_SOURCE_DIR "/tests/data/rouge/cases.json";
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  const Json cases = parse_json(text.str(), path).value();
  ASSERT_GE(cases.at("cases").size(), 40U);
  for (const Json& row : cases.at("cases")) {
    const auto reference = row.at("reference").get<std::string>();
    const auto candidate = row.at("candidate").get<std::string>();
    const RougeScore score = rouge(reference, candidate);
    EXPECT_EQ(score.rouge1, row.at("rouge1").get<double>()) << row.dump();
    EXPECT_EQ(score.rouge_l, row.at("rougeL").get<double>()) << row.dump();
    EXPECT_EQ(rouge(candidate, reference).rouge_l, score.rouge_l) << row.dump();
  }
}

TEST(Rouge, WordsAreLowerCaseLettersAndDigits) {
  EXPECT_EQ(rouge_words("Don't STOP-7x, na\xC3\xAFve"),
            (std::vector<std::string>{"don", "t", "stop", "7x", "na", "ve"}));
  EXPECT_TRUE(rouge_words(" \t...").empty());
}

}  // namespace
}  // namespace comet::study
