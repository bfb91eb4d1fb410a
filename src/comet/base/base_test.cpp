#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <string>

#include "comet/base/hash.h"
#include "comet/base/json.h"
#include "comet/base/log.h"
#include "comet/base/result.h"
#include "comet/base/rng.h"

namespace comet {
namespace {

TEST(Check, ThrowsWithConditionAndValues) {
  const int rows = 3;
  try {
    COMET_CHECK(rows == 4, "rows {}", rows);
    FAIL();
  } catch (const CheckError& e) {
    const std::string message = e.what();
    EXPECT_NE(message.find("rows == 4"), std::string::npos);
    EXPECT_NE(message.find("rows 3"), std::string::npos);
  }
}

// The vectors of draft-eastlake-fnv.
TEST(Fnv1a, IsThePublishedFunction) {
  EXPECT_EQ(Fnv1a().text(), "cbf29ce484222325");
  Fnv1a one;
  one.add("a");
  EXPECT_EQ(one.value(), 0xAF63DC4C8601EC8CULL);
  Fnv1a word;
  word.add("foo");
  word.add_number(0x726162, 3);  // "bar"
  EXPECT_EQ(word.text(), "85944171f73967e8");
}

TEST(Result, HoldsAValueOrAnError) {
  const Result<int> value = 7;
  EXPECT_TRUE(value.ok());
  EXPECT_EQ(*value, 7);
  const Result<int> error = make_error(ErrorCode::kNotFound, "{}: no such file", "a.txt");
  EXPECT_FALSE(error.ok());
  EXPECT_EQ(error.error().message, "a.txt: no such file");
  EXPECT_THROW(static_cast<void>(error.value()), CheckError);
  EXPECT_TRUE(Status().ok());
}

TEST(ParseJson, AcceptsWhatIsInsideTheLimits) {
  const auto json = parse_json(R"({"a": [1, 2.5, "x"], "b": null})", "f.json");
  ASSERT_TRUE(json.ok()) << json.error().message;
  EXPECT_EQ((*json)["a"][0], 1);
}

TEST(ParseJson, NamesTheFileOfBadInput) {
  std::string deep(100, '[');
  deep += std::string(100, ']');
  for (const std::string& text : {std::string(), std::string("{"), std::string("{\"a\": 1,}"),
                                  std::string("\xff\xfe"), deep, std::string(1 << 20, '[')}) {
    const auto json = parse_json(text, "dir/f.json");
    ASSERT_FALSE(json.ok());
    EXPECT_TRUE(json.error().message.starts_with("dir/f.json: ")) << json.error().message;
  }
  EXPECT_FALSE(parse_json("[1, 2]", "f", {.max_bytes = 3}).ok());
}

TEST(JsonObject, ChecksTypesAndRanges) {
  const Json json = {{"layers", 12},  {"theta", 1e4},    {"tied", true},
                     {"act", "silu"}, {"none", nullptr}, {"huge", 18446744073709551615ULL},
                     {"half", 1.5}};
  const JsonObject object(json, "config.json");
  EXPECT_EQ(object.integer("layers", 1, 100).value(), 12);
  EXPECT_EQ(object.integer("missing", 1, 100).value(), std::nullopt);
  EXPECT_EQ(object.integer("none", 1, 100).value(), std::nullopt);
  EXPECT_EQ(object.number("theta", 0, 1e9).value(), 1e4);
  EXPECT_EQ(object.boolean("tied").value(), true);
  EXPECT_EQ(object.string("act").value(), "silu");
  EXPECT_FALSE(object.integer("layers", 1, 11).ok());
  EXPECT_FALSE(object.integer("huge", 0, INT64_MAX).ok());
  EXPECT_FALSE(object.integer("half", 0, 10).ok());
  EXPECT_FALSE(object.number("act", 0, 1).ok());
  EXPECT_FALSE(object.boolean("layers").ok());
  const auto error = object.string("layers");
  ASSERT_FALSE(error.ok());
  EXPECT_NE(error.error().message.find("config.json: field 'layers' is 12"), std::string::npos);
}

TEST(Rng, IsAFunctionOfSeedStreamAndCounter) {
  const Rng a(1);
  const Rng b(1);
  EXPECT_EQ(a.bits(5), b.bits(5));
  EXPECT_NE(a.bits(5), a.bits(6));
  EXPECT_NE(a.bits(5), Rng(2).bits(5));
  EXPECT_NE(a.bits(5), Rng(1, 1).bits(5));
}

TEST(Rng, MomentsAreThoseOfTheDistributions) {
  Rng rng(42);
  constexpr int kDraws = 200000;
  double sum = 0;
  double squares = 0;
  double uniform = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double x = rng.next_normal();
    sum += x;
    squares += x * x;
    const float u = rng.next_uniform();
    ASSERT_GE(u, 0.0F);
    ASSERT_LT(u, 1.0F);
    uniform += u;
  }
  EXPECT_NEAR(sum / kDraws, 0.0, 0.01);
  EXPECT_NEAR(squares / kDraws, 1.0, 0.02);
  EXPECT_NEAR(uniform / kDraws, 0.5, 0.005);
  std::set<uint64_t> seen;
  for (int i = 0; i < 1000; ++i) seen.insert(rng.next_below(7));
  EXPECT_EQ(seen.size(), 7U);
  EXPECT_EQ(*seen.rbegin(), 6U);
}

TEST(Log, LevelsAreNamed) {
  EXPECT_EQ(parse_log_level("warning").value(), LogLevel::kWarning);
  EXPECT_FALSE(parse_log_level("loud").ok());
}

}  // namespace
}  // namespace comet
