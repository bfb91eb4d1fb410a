#include "comet/server/protocol/answer/answer.h"

#include <gtest/gtest.h>

#include <cmath>

#include "comet/base/json.h"

namespace comet::server {
namespace {

AnswerHead head() {
  AnswerHead head;
  head.id = "id-1";
  head.created = 7;
  head.model = "m";
  return head;
}

/// The data of each event.
std::vector<Json> events(const std::string& stream) {
  std::vector<Json> out;
  for (size_t at = 0; at < stream.size();) {
    const size_t end = stream.find("\n\n", at);
    EXPECT_EQ(stream.substr(at, 6), "data: ");
    out.push_back(Json::parse(stream.substr(at + 6, end - at - 6)));
    at = end + 2;
  }
  return out;
}

TokenLogprobs logprobs(const std::string& bytes, double logprob) {
  TokenLogprobs token;
  token.bytes = bytes;
  token.logprob = logprob;
  token.top = {{"b", -0.5}, {"\xe2\x80", -INFINITY}};
  return token;
}

TEST(Answer, WholeCompletion) {
  AnswerHead with = head();
  with.with_logprobs = true;
  ChoicePiece piece{1, "ab", {logprobs("a", -1.5)}, "length"};
  piece.logprobs.insert(piece.logprobs.begin(), TokenLogprobs{"<s>", {}, {}, 0});
  const Json json = Json::parse(make_completion_format(with)->whole({piece}, {3, 2}));
  EXPECT_EQ(json["object"], "text_completion");
  EXPECT_EQ(json["usage"]["total_tokens"], 5);
  const Json& choice = json["choices"][0];
  EXPECT_EQ(choice["index"], 1);
  EXPECT_EQ(choice["finish_reason"], "length");
  EXPECT_EQ(choice["logprobs"]["tokens"], Json::parse(R"(["<s>", "a"])"));
  EXPECT_EQ(choice["logprobs"]["token_logprobs"], Json::parse("[null, -1.5]"));
  EXPECT_TRUE(choice["logprobs"]["top_logprobs"][0].is_null());
  EXPECT_EQ(choice["logprobs"]["top_logprobs"][1]["bytes:\\xe2\\x80"], -9999.0);
  EXPECT_EQ(choice["logprobs"]["top_logprobs"][1]["a"], -1.5);
}

TEST(Answer, WholeChat) {
  const Json json = Json::parse(make_chat_format(head())->whole({{0, "é", {}, "stop"}}, {3, 2}));
  EXPECT_EQ(json["object"], "chat.completion");
  EXPECT_EQ(json["choices"][0]["message"]["content"], "é");
  EXPECT_EQ(json["choices"][0]["message"]["role"], "assistant");
  EXPECT_TRUE(json["choices"][0]["logprobs"].is_null());
}

TEST(Answer, ChatStreamHasTheRoleOnceAndAnEmptyLastDelta) {
  AnswerHead with = head();
  with.include_usage = true;
  with.with_logprobs = true;
  const auto format = make_chat_format(with);
  auto list = events(format->open_choice(0, {3, 0}) +
                     format->chunk({0, "a", {logprobs("a", -1)}, "stop"}, {3, 1}) +
                     format->usage_chunk({3, 1}));
  ASSERT_EQ(list.size(), 4);
  EXPECT_EQ(list[0]["choices"][0]["delta"]["role"], "assistant");
  EXPECT_EQ(list[1]["choices"][0]["delta"], Json::parse(R"({"content": "a"})"));
  EXPECT_EQ(list[1]["choices"][0]["logprobs"]["content"][0]["bytes"], Json::parse("[97]"));
  EXPECT_EQ(list[1]["choices"][0]["logprobs"]["content"][0]["top_logprobs"].size(), 2);
  EXPECT_TRUE(list[1]["choices"][0]["finish_reason"].is_null());
  EXPECT_EQ(list[2]["choices"][0]["delta"], Json::object());
  EXPECT_EQ(list[2]["choices"][0]["finish_reason"], "stop");
  EXPECT_TRUE(list[2]["usage"].is_null() && list[2].contains("usage"));
  EXPECT_EQ(list[3]["choices"], Json::array());
  EXPECT_EQ(list[3]["usage"]["completion_tokens"], 1);
}

TEST(Answer, UsageInEveryChunkOnlyWhenAsked) {
  AnswerHead with = head();
  const auto plain = events(make_completion_format(with)->chunk({0, "a", {}, ""}, {3, 1}));
  EXPECT_FALSE(plain[0].contains("usage"));
  with.continuous_usage = true;
  const auto all = events(make_completion_format(with)->chunk({0, "a", {}, ""}, {3, 1}));
  EXPECT_EQ(all[0]["usage"]["completion_tokens"], 1);
}

TEST(Answer, TextOfTokens) {
  EXPECT_EQ(lossy_text("a\xe2\x82\xac\xff"), "a\xe2\x82\xac\xef\xbf\xbd");
  EXPECT_EQ(token_name("\xc3\xa9"), "\xc3\xa9");
  EXPECT_EQ(token_name("\xc3"), "bytes:\\xc3");
  EXPECT_EQ(token_name("\xed\xa0\x80"), "bytes:\\xed\\xa0\\x80");
  EXPECT_EQ(token_name("\xf4\x90\x80\x80"), "bytes:\\xf4\\x90\\x80\\x80");
  EXPECT_EQ(num_characters("a\xe2\x82\xac\xc3\xa9"), 3);
}

}  // namespace
}  // namespace comet::server
