#include "comet/server/access.h"

#include <gtest/gtest.h>

#include "comet/server/metrics/prometheus.h"
#include "comet/server/protocol/openapi/openapi.h"
#include "comet/server/routes.h"

namespace comet::server {
namespace {

http::HttpRequest request_with(const std::string& name, const std::string& value) {
  http::HttpRequest request;
  request.headers = {{name, value}};
  return request;
}

TEST(Access, Keys) {
  const std::vector<std::string> keys = {"secret", "other-key"};
  EXPECT_TRUE(has_valid_key({}, {}));
  EXPECT_TRUE(has_valid_key(request_with("authorization", "Bearer secret"), keys));
  EXPECT_TRUE(has_valid_key(request_with("authorization", "bearer other-key"), keys));
  EXPECT_TRUE(has_valid_key(request_with("x-api-key", "other-key"), keys));
  for (const char* wrong : {"", "secre", "secrets", "secretsecret", "Secret", "ecret"}) {
    EXPECT_FALSE(has_valid_key(request_with("x-api-key", wrong), keys)) << wrong;
    EXPECT_FALSE(
        has_valid_key(request_with("authorization", std::string("Bearer ") + wrong), keys));
  }
  EXPECT_FALSE(has_valid_key(request_with("authorization", "Basic secret"), keys));
  EXPECT_FALSE(has_valid_key({}, keys));
}

TEST(Access, KeyFiles) {
  const auto keys = parse_key_file("# mine\nabc\n\n  \r\ndef \r\n", "f");
  ASSERT_TRUE(keys.ok());
  EXPECT_EQ(*keys, (std::vector<std::string>{"abc", "def"}));
  EXPECT_FALSE(parse_key_file("# nothing\n", "f").ok());
  EXPECT_FALSE(parse_key_file("a b\n", "f").ok());
  EXPECT_FALSE(parse_key_file("a\x01\n", "f").ok());
}

TEST(Access, RequestIds) {
  EXPECT_EQ(request_id_of("abc-1._"), "abc-1._");
  for (const std::string& bad : {std::string(), std::string("a\r\nX: 1"), std::string(129, 'a'),
                                 std::string("é"), std::string("a b")}) {
    const std::string id = request_id_of(bad);
    EXPECT_EQ(id.size(), 32);
    EXPECT_NE(id, request_id_of(bad));
  }
}

TEST(Access, LogTextHasNoLineBreaks) {
  EXPECT_EQ(log_text("/a\r\nb\\ \x1b"), "/a\\x0d\\x0ab\\x5c\\x20\\x1b");
  EXPECT_LT(log_text(std::string(10000, '\n')).size(), 1000);
}

TEST(Routes, FindPathsAndMethods) {
  EXPECT_EQ(find_route("POST", "/v1/completions").route->path, "/v1/completions");
  EXPECT_EQ(find_route("HEAD", "/health").route->path, "/health");
  EXPECT_EQ(find_route("GET", "/v1/models/a%2Fb%").argument, "a/b%");
  EXPECT_EQ(find_route("GET", "/v1/models/").route, nullptr);
  EXPECT_EQ(find_route("GET", "/v1/completions").route, nullptr);
  EXPECT_EQ(find_route("GET", "/v1/completions").allow, "POST, OPTIONS");
  EXPECT_EQ(find_route("DELETE", "/metrics").allow, "GET, HEAD, OPTIONS");
  EXPECT_EQ(find_route("GET", "/").allow, "");
  EXPECT_EQ(find_route("GET", "/v1/completions/").allow, "");
}

TEST(Prometheus, HistogramsAddUp) {
  Histogram histogram({1, 2});
  for (const double value : {0.5, 1.0, 1.5, 3.0}) histogram.observe(value);
  MetricsText text("p:", metric_label("m", "a\"\\\nb"));
  text.histogram("h", "help", histogram);
  EXPECT_EQ(text.take(),
            "# HELP p:h help\n# TYPE p:h histogram\n"
            "p:h_bucket{m=\"a\\\"\\\\\\nb\",le=\"1\"} 2\n"
            "p:h_bucket{m=\"a\\\"\\\\\\nb\",le=\"2\"} 3\n"
            "p:h_bucket{m=\"a\\\"\\\\\\nb\",le=\"+Inf\"} 4\n"
            "p:h_sum{m=\"a\\\"\\\\\\nb\"} 6\np:h_count{m=\"a\\\"\\\\\\nb\"} 4\n");
}

TEST(OpenApi, HasTheParsersBounds) {
  RequestLimits limits;
  limits.vocab_size = 10;
  limits.max_n = 5;
  const std::vector<DocumentedRoute> list = {
      {"POST", "/v1/completions", "CompletionRequest", "s", false}};
  const Json json = Json::parse(openapi_json(list, limits, "1", true));
  const Json& schemas = json["components"]["schemas"];
  EXPECT_EQ(schemas["CompletionRequest"]["properties"]["n"]["maximum"], 5);
  EXPECT_EQ(schemas["CompletionRequest"]["properties"]["seed"]["maximum"], INT64_MAX);
  EXPECT_EQ(schemas["CompletionRequest"]["properties"]["seed"]["minimum"], INT64_MIN);
  EXPECT_EQ(schemas["ChatRequest"]["properties"]["temperature"]["maximum"], 2.0);
  EXPECT_TRUE(json["paths"]["/v1/completions"]["post"]["responses"].contains("429"));
}

}  // namespace
}  // namespace comet::server
