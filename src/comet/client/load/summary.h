// Figures of a run: latencies with mean, median, deviation and percentiles, throughput, errors by
// kind, goodput. Definitions are vllm bench's, whose field names the JSON has:
//   TTFT  first content chunk − sending;  E2E  last content chunk − sending;
//   TPOT  (E2E − TTFT) / (output tokens − 1), per request of two or more;
//   ITL   every gap between two content chunks, all requests pooled.
// Failed requests count as failed and in nothing else. Callers: bench serve, the study.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "comet/base/json.h"
#include "comet/client/load/load_generator.h"

namespace comet::client {

/// The p-th percentile (0 to 100) by linear interpolation between ranks, as numpy's default; 0 of
/// no values. Sorts.
double percentile(std::vector<double>& values, double p);

struct Distribution {
  int64_t count = 0;
  double mean = 0;
  double stddev = 0;  // of the population, as numpy's default
  double p50 = 0;
  double p95 = 0;
  double p99 = 0;

  /// Of the mean, from the sample's deviation; 0 of fewer than two values.
  [[nodiscard]] double standard_error() const;
};
Distribution distribution(std::vector<double> values);

/// Limits of one request; 0: none.
struct Objectives {
  double ttft_ms = 0;
  double tpot_ms = 0;
  double e2el_ms = 0;

  [[nodiscard]] bool any() const { return ttft_ms > 0 || tpot_ms > 0 || e2el_ms > 0; }
};

struct LoadSummary {
  int64_t num_completed = 0;
  int64_t num_failed = 0;
  int64_t num_input_tokens = 0;  // of completed requests
  int64_t num_output_tokens = 0;
  double duration_s = 0;
  double request_per_s = 0;
  double output_tokens_per_s = 0;
  double total_tokens_per_s = 0;
  double good_per_s = 0;  // requests within all objectives
  Distribution ttft_ms;
  Distribution tpot_ms;
  Distribution itl_ms;
  Distribution e2el_ms;
  double max_output_tokens_per_s = 0;  // chunks in the fullest second
  double max_start_lag_ms = 0;         // sending behind schedule: the client was too busy
  std::map<std::string, int64_t> errors;
  std::string first_error;
};
LoadSummary summarize(const LoadResult& result, const Objectives& objectives);

/// vllm bench's fields, and ours; with `detailed` the lists of every request.
Json summary_json(const LoadOptions& options, const LoadResult& result, const LoadSummary& summary,
                  bool detailed);

}  // namespace comet::client
