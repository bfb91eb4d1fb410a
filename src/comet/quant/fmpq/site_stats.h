// Per-channel statistics of one site's input rows, gathered chunk by chunk during calibration:
// absmax, p99.9 (exact, over all tokens), sum of squares, and an evenly spaced subset of the rows
// for the searches. Callers: layer_quantizer. Results do not depend on threads or chunk sizes.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "comet/base/result.h"
#include "comet/device/thread_pool.h"
#include "comet/quant/matrix.h"

namespace comet::quant {

struct SiteStats {
  int64_t num_tokens = 0;
  std::vector<float> absmax;        // [k]
  std::vector<float> p999;          // [k] the ⌈0.999 n⌉-th smallest |x| of n tokens
  std::vector<double> sum_squares;  // [k]
  Matrix kept_rows;                 // [≤ max_kept_rows, k]
};

/// The statistics as they are once channel c of x is divided by scales[c]; exact for powers of two.
void scale_stats(SiteStats& stats, std::span<const float> scales);

/// Number of largest values per channel that decide p99.9 of `num_tokens` values.
int64_t num_top_values(int64_t num_tokens);

class SiteStatsAccumulator {
 public:
  /// At most `expected_tokens` rows may be added; `site` names the site in errors.
  SiteStatsAccumulator(std::string site, int64_t k, int64_t expected_tokens, int64_t max_kept_rows);

  /// rows [any, k]; NaN or Inf is an error that names the site and the channel.
  Status add(ThreadPool& pool, View<const float, 2> rows);
  /// The statistics of the rows added so far (at least one).
  [[nodiscard]] SiteStats finish() const;

 private:
  void keep_rows(View<const float, 2> rows);
  /// Channels [begin, end): false when a value is not finite.
  bool add_channels(View<const float, 2> rows, int64_t begin, int64_t end);

  std::string site_;
  int64_t k_;
  int64_t expected_tokens_;
  int64_t top_capacity_;
  int64_t num_kept_;
  int64_t num_tokens_ = 0;
  std::vector<float> absmax_;
  std::vector<double> sum_squares_;
  std::vector<float> top_;        // [k, top_capacity_] min-heaps of the largest |x| so far
  std::vector<float> threshold_;  // [k] a value must exceed it to enter the heap
  std::vector<float> kept_;       // [num kept so far, k]
};

}  // namespace comet::quant
