#include "comet/server/metrics/metrics.h"

namespace comet::server {
namespace {

std::vector<double> token_gap_bounds() {
  return {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15,
          0.2,   0.3,    0.4,   0.5,  0.75,  1,    2.5,   5};
}
std::vector<double> latency_bounds() {
  return {0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1,
          2.5,  5,    7.5,  10,   20,   40,  80,   160, 640};
}
std::vector<double> token_count_bounds() {
  return {1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000};
}

void append_engine(MetricsText& text, const Metrics::Gauges& gauges) {
  const engine::EngineStats& stats = gauges.engine;
  const auto number = [](int64_t value) { return static_cast<double>(value); };
  const double used = number(stats.num_pages - stats.num_free_pages);
  text.gauge("num_requests_running", "Sequences in the batch", number(stats.num_running));
  text.gauge("num_requests_waiting", "Sequences that wait for a place", number(stats.num_waiting));
  text.gauge("kv_cache_usage_perc", "Share of the cache's pages in use, 0 to 1",
             stats.num_pages > 0 ? used / number(stats.num_pages) : 0);
  text.gauge("kv_cache_pages", "Pages of the cache", number(stats.num_pages));
  text.gauge("kv_cache_free_pages", "Pages not in use", number(stats.num_free_pages));
  text.counter("num_preemptions_total", "Sequences put back to be computed again",
               number(stats.num_preemptions));
  text.counter("prompt_tokens_total", "Prompt tokens computed", number(stats.num_prompt_tokens));
  text.counter("generation_tokens_total", "Tokens generated", number(stats.num_generation_tokens));
  text.counter("engine_steps_total",
               "Steps of the engine; generation_tokens_total by this is the mean batch",
               number(stats.num_steps));
  text.gauge("last_batch_size", "Sequences in the last step", number(stats.last_batch_seqs));
  text.gauge("last_batch_tokens", "Tokens in the last step", number(stats.last_batch_tokens));
  text.gauge("last_step_seconds", "Duration of the last step", stats.last_step_s);
  text.gauge("engine_stalled_seconds", "Time without a step while work waits", gauges.stalled_s);
  text.gauge("num_connections", "Open connections", number(gauges.num_connections));
}

}  // namespace

Metrics::Metrics()
    : first_token_s_(latency_bounds()),
      token_gap_s_(token_gap_bounds()),
      output_token_s_(token_gap_bounds()),
      total_s_(latency_bounds()),
      queue_s_(latency_bounds()),
      prompt_tokens_(token_count_bounds()),
      output_tokens_(token_count_bounds()) {}

void Metrics::count_response(const std::string& route, const std::string& method, int status) {
  const std::lock_guard lock(mutex_);
  ++responses_[{route, method, status}];
}

void Metrics::observe_token_gap(double seconds) {
  const std::lock_guard lock(mutex_);
  token_gap_s_.observe(seconds);
}

void Metrics::observe_sequence(const SequenceRecord& record) {
  const std::lock_guard lock(mutex_);
  ++finished_[record.finish_reason];
  prompt_tokens_.observe(static_cast<double>(record.num_prompt_tokens));
  output_tokens_.observe(static_cast<double>(record.num_output_tokens));
  queue_s_.observe(record.queue_s);
  total_s_.observe(record.total_s);
  if (record.first_token_s <= 0) return;
  first_token_s_.observe(record.first_token_s);
  if (record.num_output_tokens > 1) {
    output_token_s_.observe((record.total_s - record.first_token_s) /
                            static_cast<double>(record.num_output_tokens - 1));
  }
}

void Metrics::append_requests(MetricsText& text) const {
  text.family("request_success_total", "Sequences ended, by reason", "counter");
  for (const char* reason : {"stop", "length", "abort", "error"}) {
    const auto it = finished_.find(reason);
    text.sample("request_success_total", metric_label("finished_reason", reason),
                it == finished_.end() ? 0 : static_cast<double>(it->second));
  }
  text.family("http_requests_total", "Responses, by route, method and status", "counter");
  for (const auto& [key, count] : responses_) {
    const auto& [route, method, status] = key;
    text.sample("http_requests_total",
                metric_label("route", route) + "," + metric_label("method", method) + "," +
                    metric_label("status", std::to_string(status)),
                static_cast<double>(count));
  }
  text.histogram("time_to_first_token_seconds", "From submission", first_token_s_);
  text.histogram("inter_token_latency_seconds", "Between tokens of a sequence", token_gap_s_);
  text.histogram("request_time_per_output_token_seconds", "Mean of a sequence behind its first",
                 output_token_s_);
  text.histogram("e2e_request_latency_seconds", "From submission to the last token", total_s_);
  text.histogram("request_queue_time_seconds", "From submission to the first step", queue_s_);
  text.histogram("request_prompt_tokens", "Of a sequence", prompt_tokens_);
  text.histogram("request_generation_tokens", "Of a sequence", output_tokens_);
}

std::string Metrics::text(const std::string& prefix, const std::string& model_name,
                          const Gauges& gauges) const {
  MetricsText text(prefix, metric_label("model_name", model_name));
  append_engine(text, gauges);
  const std::lock_guard lock(mutex_);
  append_requests(text);
  return text.take();
}

}  // namespace comet::server
