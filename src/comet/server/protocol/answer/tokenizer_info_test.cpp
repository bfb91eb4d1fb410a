#include "comet/server/protocol/answer/tokenizer_info.h"

#include <gtest/gtest.h>

#include "comet/base/json.h"

namespace comet::server {
namespace {

TEST(TokenizerInfo, SpecialTokensAreTextsAndAlwaysThere) {
  const auto text = tokenizer_info_text(
      R"({"bos_token": {"content": "<s>", "lstrip": false}, "eos_token": "</s>",
          "add_bos_token": true, "chat_template": "{{ x }}", "added_tokens_decoder": {"0": {}}})",
      "tokenizer_config.json");
  EXPECT_EQ(Json::parse(text.value()), Json::parse(R"({"bos_token": "<s>", "eos_token": "</s>",
      "pad_token": null, "add_bos_token": true, "chat_template": "{{ x }}"})"));
}

TEST(TokenizerInfo, NoFileGivesNullsAndABrokenOneAnError) {
  EXPECT_EQ(Json::parse(tokenizer_info_text("", "x").value()),
            Json::parse(R"({"bos_token": null, "eos_token": null, "pad_token": null})"));
  EXPECT_FALSE(tokenizer_info_text("[1]", "x").ok());
  EXPECT_FALSE(tokenizer_info_text("{", "x").ok());
}

}  // namespace
}  // namespace comet::server
