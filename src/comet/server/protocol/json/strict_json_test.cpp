#include "comet/server/protocol/json/strict_json.h"

#include <gtest/gtest.h>

#include <string>

namespace comet::server {
namespace {

std::string error_of(const std::string& body, const JsonBodyLimits& limits = {}) {
  Json object;
  const auto error = parse_json_body(body, limits, object);
  if (!error) return "";
  EXPECT_EQ(error->status, 400);
  EXPECT_EQ(error->type, "invalid_request_error");
  return error->message;
}

std::string nested(int depth) {
  std::string body = R"({"a":)";
  for (int i = 1; i < depth; ++i) body += "[";
  for (int i = 1; i < depth; ++i) body += "]";
  return depth == 1 ? "{}" : body + "}";
}

TEST(StrictJson, TakesAnObjectWithEveryKindOfValue) {
  Json object;
  const std::string body = R"( {"a": [1, -2, 2.5, true, null, "é\ud83d\ude00"], "b": {"c": {}}} )";
  ASSERT_FALSE(parse_json_body(body, {}, object));
  EXPECT_EQ(object, Json::parse(body));
}

TEST(StrictJson, RefusesWhatIsNoObject) {
  for (const char* body :
       {"", " ", "null", "[]", "\"a\"", "1", "{", "{\"a\":}", "{\"a\":1,}", "{a:1}", "{}x", "{}{}",
        "{} //", "{\"a\":NaN}", "{\"a\":Infinity}", "{\"a\":01}", "{\"a\":\"\t\"}", "{\"a\":+1}"}) {
    EXPECT_NE(error_of(body), "") << body;
  }
}

TEST(StrictJson, RefusesTextThatIsNotUnicode) {
  EXPECT_NE(error_of("{\"a\":\"\xff\"}"), "");
  EXPECT_NE(error_of("{\"a\":\"\xed\xa0\x80\"}"), "");  // a surrogate in UTF-8
  EXPECT_NE(error_of(R"({"a":"\ud800"})"), "");
  EXPECT_NE(error_of(R"({"a":"\udc00\ud800"})"), "");
  EXPECT_NE(error_of(R"({"\ud800":1})"), "");
}

TEST(StrictJson, RefusesNumbersOutOfRange) {
  EXPECT_NE(error_of(R"({"a":1e400})").find("out of range"), std::string::npos);
  EXPECT_NE(error_of(R"({"a":[-1e999]})"), "");
  EXPECT_EQ(error_of(R"({"a":1e308, "b":18446744073709551616, "c":-0})"), "");
}

TEST(StrictJson, RefusesANameGivenTwice) {
  EXPECT_NE(error_of(R"({"a":1,"a":1})").find("'a' twice"), std::string::npos);
  EXPECT_NE(error_of(R"({"b":[{"a":1,"x":{},"a":2}]})"), "");
  EXPECT_EQ(error_of(R"({"a":{"a":{"a":1}},"b":[{"a":1},{"a":1}]})"), "");
}

TEST(StrictJson, BoundsDepthAndNumberOfValues) {
  EXPECT_EQ(error_of(nested(64)), "");
  EXPECT_NE(error_of(nested(65)).find("deeper than 64"), std::string::npos);
  EXPECT_NE(error_of("{\"a\":" + std::string(100000, '[')), "");
  JsonBodyLimits limits;
  limits.max_values = 10;
  EXPECT_EQ(error_of(R"({"a":[1,2,3,4,5,6,7,8]})", limits), "");
  EXPECT_NE(error_of(R"({"a":[1,2,3,4,5,6,7,8,9]})", limits).find("10 JSON values"),
            std::string::npos);
}

TEST(StrictJson, MessagesDoNotRepeatTheBody) {
  const std::string secret(1000, 's');
  EXPECT_LT(error_of("{\"" + secret + "\":1,\"" + secret + "\":2}").size(), 200);
  EXPECT_EQ(error_of("{\"a\":\"" + secret).find("sss"), std::string::npos);
}

}  // namespace
}  // namespace comet::server
