// Metrics: what the server counts, and the text of /metrics. Names follow vLLM's under "comet:".
// Any thread.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <tuple>

#include "comet/engine/engine_stats.h"
#include "comet/server/metrics/prometheus.h"

namespace comet::server {

/// One sequence of a request that has ended.
struct SequenceRecord {
  std::string finish_reason;  // "stop", "length", "abort", "error"
  int64_t num_prompt_tokens = 0;
  int64_t num_output_tokens = 0;
  double queue_s = 0;
  double first_token_s = 0;  // since it was submitted; ≤ 0: there was none
  double total_s = 0;
};

class Metrics {
 public:
  Metrics();
  void count_response(const std::string& route, const std::string& method, int status);
  void observe_token_gap(double seconds);
  void observe_sequence(const SequenceRecord& record);

  struct Gauges {
    engine::EngineStats engine;
    int64_t num_connections = 0;
    double stalled_s = 0;
  };
  /// `prefix`: "comet:" or "vllm:".
  [[nodiscard]] std::string text(const std::string& prefix, const std::string& model_name,
                                 const Gauges& gauges) const;

 private:
  void append_requests(MetricsText& text) const;

  mutable std::mutex mutex_;
  std::map<std::tuple<std::string, std::string, int>, int64_t> responses_;
  std::map<std::string, int64_t> finished_;
  Histogram first_token_s_;
  Histogram token_gap_s_;
  Histogram output_token_s_;
  Histogram total_s_;
  Histogram queue_s_;
  Histogram prompt_tokens_;
  Histogram output_tokens_;
};

/// process_resident_memory_bytes, process_open_fds and others, as client libraries name them.
std::string process_metrics_text();

}  // namespace comet::server
