#include "comet/client/ramp/rate_window.h"

#include <algorithm>
#include <array>

namespace comet::client {
namespace {

constexpr size_t kNumSlices = 8;
constexpr double kMsPerS = 1e3;

/// Tokens and gaps of the window, and of its slices.
class TokenCounts {
 public:
  explicit TokenCounts(const WindowBounds& bounds) : bounds_(bounds) {}

  /// A chunk, `gap_s` behind the one before it; negative: the first.
  void add(double at_s, double gap_s) {
    if (at_s < bounds_.begin_s || at_s >= bounds_.end_s) return;
    const double share = (at_s - bounds_.begin_s) / (bounds_.end_s - bounds_.begin_s);
    Slice& slice = slices_[std::min(static_cast<size_t>(share * kNumSlices), kNumSlices - 1)];
    ++slice.num_tokens;
    if (gap_s < 0) return;
    gaps_ms_.push_back(gap_s * kMsPerS);
    slice.gap_sum_ms += gap_s * kMsPerS;
    ++slice.num_gaps;
  }

  void put(RateWindow& window, int64_t output_tokens) && {
    const double slice_s = window.window_s / kNumSlices;
    std::vector<double> rates;
    std::vector<double> gap_means_ms;
    for (const Slice& slice : slices_) {
      rates.push_back(static_cast<double>(slice.num_tokens) / slice_s);
      if (slice.num_gaps > 0) {
        gap_means_ms.push_back(slice.gap_sum_ms / static_cast<double>(slice.num_gaps));
      }
    }
    const Distribution rate = distribution(std::move(rates));
    const auto tokens = static_cast<double>(output_tokens);
    window.output_tokens_per_s = rate.mean;
    window.output_tokens_stderr = rate.standard_error();
    window.queries_per_s = rate.mean / tokens;
    window.queries_stderr = rate.standard_error() / tokens;
    window.itl_ms = distribution(std::move(gaps_ms_));
    window.itl_stderr_ms = distribution(std::move(gap_means_ms)).standard_error();
  }

 private:
  struct Slice {
    int64_t num_tokens = 0;
    int64_t num_gaps = 0;
    double gap_sum_ms = 0;
  };
  const WindowBounds& bounds_;
  std::array<Slice, kNumSlices> slices_{};
  std::vector<double> gaps_ms_;
};

/// Those that wait are no sample yet unless they wait long: leaving them all out would hide a
/// queue, counting them all would make its youngest look served.
Distribution first_tokens(std::vector<double> ttft_ms, const std::vector<double>& waits_ms) {
  const double mean_ms = distribution(ttft_ms).mean;
  for (const double wait_ms : waits_ms) {
    if (wait_ms > mean_ms) ttft_ms.push_back(wait_ms);
  }
  return distribution(std::move(ttft_ms));
}

}  // namespace

RateWindow window_figures(const std::vector<std::unique_ptr<SteppedRequest>>& requests,
                          const WindowBounds& bounds, int64_t output_tokens) {
  RateWindow window;
  window.window_s = bounds.end_s - bounds.begin_s;
  window.settle_s = bounds.begin_s - bounds.settle_begin_s;
  const auto inside = [&](double at_s) { return at_s >= bounds.begin_s && at_s < bounds.end_s; };
  TokenCounts counts(bounds);
  std::vector<double> ttft_ms;
  std::vector<double> waits_ms;
  for (const auto& request : requests) {
    const RequestRecord& record = request->record;
    if (inside(record.sent_s) && request->arrived) {
      ++window.num_arrivals;
      window.max_start_lag_ms =
          std::max(window.max_start_lag_ms, (record.sent_s - record.scheduled_s) * kMsPerS);
    }
    if (!record.error_kind.empty()) {
      if (record.sent_s + record.latency_s < bounds.settle_begin_s) continue;
      ++window.num_failed;
      if (window.first_error.empty()) window.first_error = record.error;
      continue;
    }
    if (record.ttft_s <= 0) {
      if (request->arrived && !request->ended && record.sent_s < bounds.end_s) {
        waits_ms.push_back((bounds.end_s - record.sent_s) * kMsPerS);
      }
      continue;
    }
    double at_s = record.sent_s + record.ttft_s;
    if (request->arrived && inside(at_s)) ttft_ms.push_back(record.ttft_s * kMsPerS);
    counts.add(at_s, -1);
    for (const double gap_s : record.gaps_s) counts.add(at_s += gap_s, gap_s);
    if (request->ended && !request->dropped && inside(at_s)) ++window.num_completed;
  }
  window.ttft_ms = first_tokens(std::move(ttft_ms), waits_ms);
  std::move(counts).put(window, output_tokens);
  return window;
}

}  // namespace comet::client
