#include "comet/engine/stop_matcher.h"

#include <gtest/gtest.h>

#include "comet/base/rng.h"

namespace comet::engine {
namespace {

TEST(StopMatcher, HoldsBackWhatMayBecomeAStop) {
  StopMatcher matcher({"END", "\n\n"});
  EXPECT_EQ(matcher.push("one E"), "one ");
  EXPECT_EQ(matcher.push("N"), "");
  EXPECT_EQ(matcher.push("T\n"), "ENT");
  EXPECT_EQ(matcher.push("x"), "\nx");
  EXPECT_EQ(matcher.push("E"), "");
  EXPECT_EQ(matcher.push("EEN"), "EE");
  EXPECT_EQ(matcher.matched(), nullptr);
  EXPECT_EQ(matcher.push("D and more"), "");
  ASSERT_NE(matcher.matched(), nullptr);
  EXPECT_EQ(*matcher.matched(), "END");
  EXPECT_EQ(matcher.push("later"), "");
  EXPECT_EQ(matcher.flush(), "");
}

TEST(StopMatcher, FlushGivesBackAnUnfinishedStop) {
  StopMatcher matcher({"stop"});
  EXPECT_EQ(matcher.push("non-sto"), "non-");
  EXPECT_EQ(matcher.flush(), "sto");
  StopMatcher none;
  EXPECT_EQ(none.push("anything"), "anything");
  EXPECT_EQ(none.flush(), "");
}

TEST(StopMatcher, OfStopsCompleteAtOnceTheLongestCounts) {
  StopMatcher matcher({"b", "aab", "ab"});
  EXPECT_EQ(matcher.push("xaab"), "x");
  EXPECT_EQ(*matcher.matched(), "aab");
}

/// Byte by byte, from the definition.
std::pair<std::string, std::string> reference(const std::string& text,
                                              const std::vector<std::string>& stops) {
  for (size_t end = 1; end <= text.size(); ++end) {
    const std::string_view head = std::string_view(text).substr(0, end);
    std::string best;
    for (const std::string& stop : stops) {
      if (head.ends_with(stop) && stop.size() > best.size()) best = stop;
    }
    if (!best.empty()) return {text.substr(0, end - best.size()), best};
  }
  return {text, ""};
}

TEST(StopMatcher, HowTheTextIsCutChangesNothing) {
  Rng rng(7);
  int num_matches = 0;
  for (int round = 0; round < 5000; ++round) {
    const auto random_text = [&](uint64_t max_len) {
      std::string text(1 + rng.next_below(max_len), 'a');
      for (char& c : text) c = static_cast<char>('a' + rng.next_below(3));
      return text;
    };
    std::vector<std::string> stops;
    for (uint64_t i = rng.next_below(4); i > 0; --i) stops.push_back(random_text(5));
    const std::string text = random_text(30);
    const auto [expected, expected_stop] = reference(text, stops);
    StopMatcher matcher(stops);
    std::string given;
    for (size_t at = 0; at < text.size();) {
      const size_t n = 1 + rng.next_below(6);
      given += matcher.push(std::string_view(text).substr(at, n));
      at += n;
      ASSERT_TRUE(expected.starts_with(given)) << "gave out a part of a stop";
    }
    given += matcher.flush();
    ASSERT_EQ(given, expected);
    ASSERT_EQ(matcher.matched() != nullptr ? *matcher.matched() : "", expected_stop);
    num_matches += expected_stop.empty() ? 0 : 1;
  }
  EXPECT_GT(num_matches, 1000);
}

}  // namespace
}  // namespace comet::engine
