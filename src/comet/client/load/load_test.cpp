#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "comet/client/load/arrivals.h"
#include "comet/client/load/profile.h"
#include "comet/client/load/summary.h"

namespace comet::client {
namespace {

TEST(Profiles, AreThePapersSevenAndForgiveSpelling) {
  ASSERT_EQ(profiles().size(), 7U);
  for (const Profile& profile : profiles()) {
    EXPECT_EQ(find_profile(profile.name)->output_tokens, profile.output_tokens);
    EXPECT_EQ(find_profile(profile.title)->name, profile.name) << profile.title;
  }
  EXPECT_EQ(find_profile("RAG")->input_tokens, 1024);
  EXPECT_EQ(find_profile("code_completion")->output_tokens, 1024);
  const auto wrong = find_profile("poetry");
  ASSERT_FALSE(wrong.ok());
  EXPECT_NE(wrong.error().message.find("summarization"), std::string::npos);
}

TEST(Profiles, ScaleToAShortContext) {
  const Profile small = scaled(*find_profile("summarization"), 0.2);
  EXPECT_EQ(small.input_tokens, 819);
  EXPECT_EQ(small.output_tokens, 102);
  EXPECT_EQ(scaled(small, 1e-6).input_tokens, 1);
}

TEST(ArrivalTimes, AConstantRateIsEven) {
  ArrivalTimes times({Arrivals::Kind::kConstant, 1, 4}, 7);
  EXPECT_EQ(times.next_s(), 0.0);
  EXPECT_EQ(times.next_s(), 0.25);
  EXPECT_EQ(times.next_s(), 0.5);
}

TEST(ArrivalTimes, APoissonProcessHasExponentialGapsAndRepeats) {
  const Arrivals arrivals{Arrivals::Kind::kPoisson, 1, 5};
  ArrivalTimes times(arrivals, 7);
  ArrivalTimes again(arrivals, 7);
  ArrivalTimes other(arrivals, 8);
  constexpr int kCount = 20000;
  double last = 0;
  double squares = 0;
  EXPECT_NE(other.next_s(), ArrivalTimes(arrivals, 7).next_s());
  for (int i = 0; i < kCount; ++i) {
    const double at_s = times.next_s();
    EXPECT_EQ(at_s, again.next_s());
    squares += (at_s - last) * (at_s - last);
    last = at_s;
  }
  EXPECT_NEAR(last / kCount, 0.2, 0.2 * 4 / std::sqrt(kCount));  // four standard errors
  EXPECT_NEAR(squares / kCount, 2 * 0.04, 0.08 * 4 * std::sqrt(5.0 / kCount));
}

TEST(Percentile, IsNumpysLinearOne) {
  // numpy.percentile([3, 1, 4, 1, 5, 9, 2, 6], [0, 50, 95, 99, 100])
  std::vector<double> values{3, 1, 4, 1, 5, 9, 2, 6};
  EXPECT_DOUBLE_EQ(percentile(values, 0), 1);
  EXPECT_DOUBLE_EQ(percentile(values, 50), 3.5);
  EXPECT_DOUBLE_EQ(percentile(values, 95), 7.95);
  EXPECT_DOUBLE_EQ(percentile(values, 99), 8.79);
  EXPECT_DOUBLE_EQ(percentile(values, 100), 9);
  std::vector<double> one{2};
  EXPECT_EQ(percentile(one, 99), 2);
  std::vector<double> none;
  EXPECT_EQ(percentile(none, 50), 0);
  const Distribution d = distribution({3, 1, 4, 1, 5, 9, 2, 6});
  EXPECT_DOUBLE_EQ(d.mean, 3.875);
  EXPECT_NEAR(d.stddev, 2.5708704751503917, 1e-14);            // numpy.std
  EXPECT_NEAR(d.standard_error(), 0.9716977043151993, 1e-14);  // numpy.std(ddof=1) / sqrt(8)
}

RequestRecord record_of(double sent_s, double ttft_s, std::vector<double> gaps_s) {
  RequestRecord record;
  record.sent_s = record.scheduled_s = sent_s;
  record.ttft_s = record.latency_s = ttft_s;
  for (const double gap_s : gaps_s) record.latency_s += gap_s;
  record.input_tokens = 10;
  record.output_tokens = static_cast<int64_t>(gaps_s.size()) + 1;
  record.gaps_s = std::move(gaps_s);
  return record;
}

TEST(Summary, FollowsTheDefinitions) {
  LoadResult result;
  result.duration_s = 4;
  result.records = {record_of(0, 0.1, {0.02, 0.04}), record_of(1, 0.3, {0.06}),
                    record_of(2, 0.2, {})};
  RequestRecord failed = record_of(3, 9, {9});
  failed.error_kind = "http_429";
  failed.error = "full";
  result.records.push_back(failed);
  const LoadSummary s = summarize(result, {.ttft_ms = 250, .tpot_ms = 40});
  EXPECT_EQ(s.num_completed, 3);
  EXPECT_EQ(s.num_failed, 1);
  EXPECT_EQ(s.errors.at("http_429"), 1);
  EXPECT_EQ(s.first_error, "full");
  EXPECT_EQ(s.num_input_tokens, 30);
  EXPECT_EQ(s.num_output_tokens, 6);
  EXPECT_DOUBLE_EQ(s.request_per_s, 0.75);
  EXPECT_DOUBLE_EQ(s.good_per_s, 0.5);  // the second is late
  EXPECT_DOUBLE_EQ(s.output_tokens_per_s, 1.5);
  EXPECT_NEAR(s.ttft_ms.mean, 200, 1e-9);
  EXPECT_EQ(s.tpot_ms.count, 2);  // one token has no time per output token
  EXPECT_NEAR(s.tpot_ms.mean, (30 + 60) / 2.0, 1e-9);
  EXPECT_EQ(s.itl_ms.count, 3);
  EXPECT_NEAR(s.itl_ms.mean, 40, 1e-9);
  EXPECT_NEAR(s.e2el_ms.mean, (160 + 360 + 200) / 3.0, 1e-9);
  EXPECT_EQ(s.max_output_tokens_per_s, 3);
  const Json json = summary_json({}, result, s, true);
  for (const char* field : {"mean_ttft_ms", "median_tpot_ms", "std_itl_ms", "p99_e2el_ms",
                            "request_throughput", "errors", "itls", "start_times"}) {
    EXPECT_TRUE(json.contains(field)) << field;
  }
  EXPECT_FALSE(summary_json({}, result, s, false).contains("itls"));
}

TEST(Summary, OfNothingIsZero) {
  const LoadSummary s = summarize({}, {});
  EXPECT_EQ(s.num_completed, 0);
  EXPECT_EQ(s.request_per_s, 0);
  EXPECT_EQ(s.e2el_ms.p99, 0);
}

class Events : public ::testing::Test {
 protected:
  RequestRecord record_;
  CompletionEvents events_{record_, 10.0};
};

TEST_F(Events, TimesAreOfContentChunks) {
  const auto chunk = [](const std::string& text, const std::string& finish) {
    return R"({"choices": [{"index": 0, "text": ")" + text + R"(", "finish_reason": )" + finish +
           R"(}], "usage": null})";
  };
  EXPECT_TRUE(events_.on_event(chunk("a", "null"), 10.5));
  EXPECT_TRUE(events_.on_event(chunk("", "null"), 10.6));  // half a character is a token too
  EXPECT_TRUE(events_.on_event(chunk("b", "\"length\""), 10.8));
  EXPECT_TRUE(events_.on_event(chunk("", "\"length\""), 11.8));  // an end without a token
  EXPECT_TRUE(events_.on_event(
      R"({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 4}})", 12));
  events_.finish(99);
  EXPECT_NEAR(record_.ttft_s, 0.5, 1e-12);
  EXPECT_NEAR(record_.latency_s, 0.8, 1e-12);
  ASSERT_EQ(record_.gaps_s.size(), 2U);
  EXPECT_NEAR(record_.gaps_s[1], 0.2, 1e-12);
  EXPECT_EQ(record_.input_tokens, 7);
  EXPECT_EQ(record_.output_tokens, 4);
  EXPECT_EQ(record_.text, "ab");
  EXPECT_TRUE(record_.error_kind.empty());
}

TEST_F(Events, AChatBeginsWithItsFirstText) {
  EXPECT_TRUE(
      events_.on_event(R"({"choices": [{"delta": {"role": "assistant", "content": ""}}]})", 11));
  EXPECT_TRUE(events_.on_event(R"({"choices": [{"delta": {"content": "Hi"}}]})", 12));
  EXPECT_TRUE(events_.on_event(R"({"choices": [{"delta": {}, "finish_reason": "stop"}]})", 13));
  events_.finish(5);
  EXPECT_NEAR(record_.ttft_s, 2, 1e-12);
  EXPECT_EQ(record_.output_tokens, 1);  // of the chunks, without usage
  EXPECT_EQ(record_.input_tokens, 5);
}

TEST_F(Events, AnErrorChunkAndNonsenseEndTheRequest) {
  EXPECT_FALSE(events_.on_event(R"({"error": {"message": "out of pages"}})", 11));
  EXPECT_EQ(record_.error_kind, "stream_error");
  EXPECT_NE(record_.error.find("out of pages"), std::string::npos);
  RequestRecord other;
  CompletionEvents events(other, 0);
  EXPECT_FALSE(events.on_event("<html>", 1));
  EXPECT_EQ(other.error_kind, "protocol");
}

TEST_F(Events, AStreamWithoutATokenIsAnError) {
  events_.finish(5);
  EXPECT_EQ(record_.error_kind, "empty");
}

}  // namespace
}  // namespace comet::client
