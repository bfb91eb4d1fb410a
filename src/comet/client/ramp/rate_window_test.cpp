#include "comet/client/ramp/rate_window.h"

#include <gtest/gtest.h>

namespace comet::client {
namespace {

class Window : public ::testing::Test {
 protected:
  SteppedRequest& add(double sent_s, double ttft_s, int num_gaps, double gap_s) {
    requests_.push_back(std::make_unique<SteppedRequest>());
    RequestRecord& record = requests_.back()->record;
    record.sent_s = record.scheduled_s = sent_s;
    record.ttft_s = ttft_s;
    record.gaps_s.assign(static_cast<size_t>(num_gaps), gap_s);
    record.latency_s = ttft_s + num_gaps * gap_s;
    return *requests_.back();
  }
  [[nodiscard]] RateWindow figures() const { return window_figures(requests_, {10, 14, 8}, 4); }

  std::vector<std::unique_ptr<SteppedRequest>> requests_;
};

TEST_F(Window, CountsWhatHappensInside) {
  add(5, 1.05, 16, 0.5).ended = true;  // 6.05 … 14.05: eight tokens inside, the end is outside
  SteppedRequest& filled = add(9, 1.2, 4, 0.5);  // 10.2 … 12.2
  filled.arrived = false;
  filled.ended = true;
  add(11, 0.3, 2, 0.1).record.scheduled_s = 10.99;
  const RateWindow w = figures();
  EXPECT_DOUBLE_EQ(w.window_s, 4);
  EXPECT_DOUBLE_EQ(w.settle_s, 2);
  EXPECT_EQ(w.num_arrivals, 1);
  EXPECT_NEAR(w.max_start_lag_ms, 10, 1e-6);
  EXPECT_EQ(w.num_completed, 1);
  EXPECT_EQ(w.ttft_ms.count, 1);  // neither the filled one nor the one of before
  EXPECT_NEAR(w.ttft_ms.mean, 300, 1e-9);
  EXPECT_EQ(w.itl_ms.count, 8 + 4 + 2);
  EXPECT_DOUBLE_EQ(w.output_tokens_per_s, (8 + 5 + 3) / 4.0);
  EXPECT_DOUBLE_EQ(w.queries_per_s, w.output_tokens_per_s / 4);
  EXPECT_GT(w.queries_stderr, 0);
  EXPECT_DOUBLE_EQ(w.queries_stderr, w.output_tokens_stderr / 4);
}

TEST_F(Window, LongWaitsCountAsFirstTokens) {
  add(10.5, 0.5, 0, 0);
  add(12.5, 0, 0, 0);  // still waits, for 1.5 s
  add(13.9, 0, 0, 0);  // for less than the mean
  add(12, 0, 0, 0).arrived = false;
  EXPECT_EQ(figures().ttft_ms.count, 2);
  EXPECT_NEAR(figures().ttft_ms.mean, 1000, 1e-9);
}

TEST_F(Window, FailuresWhileSettlingCount) {
  for (const double sent_s : {7.0, 8.5, 11.0}) {
    SteppedRequest& request = add(sent_s, 0, 0, 0);
    request.record.error_kind = "http_429";
    request.record.error = "full";
    request.ended = true;
  }
  const RateWindow w = figures();
  EXPECT_EQ(w.num_failed, 2);
  EXPECT_EQ(w.first_error, "full");
  EXPECT_EQ(w.ttft_ms.count, 0);
}

TEST_F(Window, DroppedRequestsAreNotCompleted) {
  SteppedRequest& request = add(10, 0.5, 2, 0.5);
  request.ended = request.dropped = true;
  EXPECT_EQ(figures().num_completed, 0);
  EXPECT_DOUBLE_EQ(figures().output_tokens_per_s, 0.75);
}

}  // namespace
}  // namespace comet::client
