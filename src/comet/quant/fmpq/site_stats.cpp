#include "comet/quant/fmpq/site_stats.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>
#include <limits>

namespace comet::quant {
namespace {

constexpr int64_t kStripChannels = 64;  // channels per task

}  // namespace

void scale_stats(SiteStats& stats, std::span<const float> scales) {
  const auto k = static_cast<int64_t>(scales.size());
  COMET_CHECK(k == static_cast<int64_t>(stats.p999.size()), "{} scales for {} channels", k,
              stats.p999.size());
  for (int64_t c = 0; c < k; ++c) {
    const double scale = scales[c];
    if (scale == 1.0) continue;
    stats.absmax[c] /= scales[c];
    stats.p999[c] /= scales[c];
    stats.sum_squares[c] /= scale * scale;
    for (int64_t t = 0; t < stats.kept_rows.rows; ++t) stats.kept_rows.row(t)[c] /= scales[c];
  }
}

int64_t num_top_values(int64_t num_tokens) {
  // ⌈0.999 n⌉ in integers; ranks are counted from 1.
  const int64_t rank = (999 * num_tokens + 999) / 1000;
  return num_tokens - rank + 1;
}

SiteStatsAccumulator::SiteStatsAccumulator(std::string site, int64_t k, int64_t expected_tokens,
                                           int64_t max_kept_rows)
    : site_(std::move(site)),
      k_(k),
      expected_tokens_(expected_tokens),
      top_capacity_(num_top_values(expected_tokens)),
      num_kept_(std::min(max_kept_rows, expected_tokens)),
      absmax_(k, 0.0F),
      sum_squares_(k, 0.0),
      top_(k * top_capacity_, -1.0F),  // below every |x|
      threshold_(k, -1.0F) {
  COMET_CHECK(k > 0 && expected_tokens > 0, "site {} has {} channels, {} tokens", site_, k,
              expected_tokens);
}

Status SiteStatsAccumulator::add(ThreadPool& pool, View<const float, 2> rows) {
  COMET_CHECK(rows.size(1) == k_ && num_tokens_ + rows.size(0) <= expected_tokens_,
              "site {}: {} rows of {} after {} of {}", site_, rows.size(0), rows.size(1),
              num_tokens_, expected_tokens_);
  std::atomic<bool> finite{true};
  const int64_t num_strips = (k_ + kStripChannels - 1) / kStripChannels;
  pool.parallel_for(num_strips, [&](int64_t strip_idx, int) {
    const int64_t begin = strip_idx * kStripChannels;
    if (!add_channels(rows, begin, std::min(begin + kStripChannels, k_))) finite = false;
  });
  if (!finite) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: an activation is NaN or infinite during calibration; the model is "
                      "damaged or overflows, check it with `comet eval` first",
                      site_);
  }
  keep_rows(rows);
  num_tokens_ += rows.size(0);
  return {};
}

bool SiteStatsAccumulator::add_channels(View<const float, 2> rows, int64_t begin, int64_t end) {
  bool finite = true;
  for (int64_t t = 0; t < rows.size(0); ++t) {
    const float* x = rows.row(t);
    for (int64_t c = begin; c < end; ++c) {
      const float magnitude = std::fabs(x[c]);
      finite &= magnitude <= std::numeric_limits<float>::max();  // false for NaN
      absmax_[c] = std::max(absmax_[c], magnitude);
      sum_squares_[c] += static_cast<double>(x[c]) * x[c];
      if (magnitude > threshold_[c]) {
        float* heap = top_.data() + c * top_capacity_;
        std::pop_heap(heap, heap + top_capacity_, std::greater<>());
        heap[top_capacity_ - 1] = magnitude;
        std::push_heap(heap, heap + top_capacity_, std::greater<>());
        threshold_[c] = heap[0];
      }
    }
  }
  return finite;
}

void SiteStatsAccumulator::keep_rows(View<const float, 2> rows) {
  for (int64_t t = 0; t < rows.size(0); ++t) {
    const int64_t i = num_tokens_ + t;
    const bool kept = (i + 1) * num_kept_ / expected_tokens_ > i * num_kept_ / expected_tokens_;
    if (kept) kept_.insert(kept_.end(), rows.row(t), rows.row(t) + k_);
  }
}

SiteStats SiteStatsAccumulator::finish() const {
  COMET_CHECK(num_tokens_ > 0, "site {} saw no token", site_);
  SiteStats stats;
  stats.num_tokens = num_tokens_;
  stats.absmax = absmax_;
  stats.sum_squares = sum_squares_;
  stats.p999.resize(k_);
  const int64_t wanted = num_top_values(num_tokens_);  // ≤ top_capacity_
  std::vector<float> largest(top_capacity_);
  for (int64_t c = 0; c < k_; ++c) {
    std::copy_n(top_.begin() + c * top_capacity_, top_capacity_, largest.begin());
    std::nth_element(largest.begin(), largest.begin() + (wanted - 1), largest.end(),
                     std::greater<>());
    stats.p999[c] = largest[wanted - 1];
  }
  stats.kept_rows.rows = static_cast<int64_t>(kept_.size()) / k_;
  stats.kept_rows.cols = k_;
  stats.kept_rows.values = kept_;
  return stats;
}

}  // namespace comet::quant
