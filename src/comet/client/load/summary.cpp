#include "comet/client/load/summary.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace comet::client {
namespace {

constexpr double kMsPerS = 1e3;

double good(const RequestRecord& record, const Objectives& limits) {
  const auto within = [](double value_s, double limit_ms) {
    return limit_ms <= 0 || value_s * kMsPerS <= limit_ms;
  };
  const double tpot_s = record.output_tokens > 1 ? (record.latency_s - record.ttft_s) /
                                                       static_cast<double>(record.output_tokens - 1)
                                                 : 0;
  return within(record.ttft_s, limits.ttft_ms) && within(tpot_s, limits.tpot_ms) &&
         within(record.latency_s, limits.e2el_ms);
}

/// The fullest of the whole seconds that chunks arrived in.
double fullest_second(const std::vector<RequestRecord>& records) {
  std::map<int64_t, int64_t> counts;
  for (const RequestRecord& record : records) {
    if (!record.error_kind.empty()) continue;
    double at_s = record.sent_s + record.ttft_s;
    ++counts[static_cast<int64_t>(at_s)];
    for (const double gap_s : record.gaps_s) ++counts[static_cast<int64_t>(at_s += gap_s)];
  }
  int64_t most = 0;
  for (const auto& [second, count] : counts) most = std::max(most, count);
  return static_cast<double>(most);
}

void put_distribution(Json& json, const std::string& name, const Distribution& d) {
  json["mean_" + name] = d.mean;
  json["median_" + name] = d.p50;
  json["std_" + name] = d.stddev;
  json["p50_" + name] = d.p50;
  json["p95_" + name] = d.p95;
  json["p99_" + name] = d.p99;
  json["stderr_" + name] = d.standard_error();
}

void put_details(Json& json, const std::vector<RequestRecord>& records) {
  for (const char* field : {"input_lens", "output_lens", "ttfts", "itls", "latencies",
                            "start_times", "generated_texts", "errors"}) {
    json[field] = Json::array();
  }
  for (const RequestRecord& record : records) {
    json["input_lens"].push_back(record.input_tokens);
    json["output_lens"].push_back(record.output_tokens);
    json["ttfts"].push_back(record.ttft_s);
    json["itls"].push_back(record.gaps_s);
    json["latencies"].push_back(record.latency_s);
    json["start_times"].push_back(record.sent_s);
    json["generated_texts"].push_back(record.text);
    json["errors"].push_back(record.error);
  }
}

}  // namespace

double percentile(std::vector<double>& values, double p) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const double rank = p / 100 * static_cast<double>(values.size() - 1);
  const auto low = static_cast<size_t>(rank);
  const size_t high = std::min(low + 1, values.size() - 1);
  return values[low] + (rank - static_cast<double>(low)) * (values[high] - values[low]);
}

double Distribution::standard_error() const {
  return count < 2 ? 0 : stddev / std::sqrt(static_cast<double>(count - 1));
}

Distribution distribution(std::vector<double> values) {
  Distribution d;
  if (values.empty()) return d;
  d.count = static_cast<int64_t>(values.size());
  const auto n = static_cast<double>(values.size());
  d.mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
  double squares = 0;
  for (const double value : values) squares += (value - d.mean) * (value - d.mean);
  d.stddev = std::sqrt(squares / n);
  d.p50 = percentile(values, 50);
  d.p95 = percentile(values, 95);
  d.p99 = percentile(values, 99);
  return d;
}

LoadSummary summarize(const LoadResult& result, const Objectives& objectives) {
  LoadSummary s;
  s.duration_s = result.duration_s;
  std::vector<double> ttft;
  std::vector<double> tpot;
  std::vector<double> itl;
  std::vector<double> e2el;
  int64_t num_good = 0;
  for (const RequestRecord& record : result.records) {
    s.max_start_lag_ms =
        std::max(s.max_start_lag_ms, (record.sent_s - record.scheduled_s) * kMsPerS);
    if (!record.error_kind.empty()) {
      ++s.num_failed;
      ++s.errors[record.error_kind];
      if (s.first_error.empty()) s.first_error = record.error;
      continue;
    }
    ++s.num_completed;
    s.num_input_tokens += record.input_tokens;
    s.num_output_tokens += record.output_tokens;
    ttft.push_back(record.ttft_s * kMsPerS);
    e2el.push_back(record.latency_s * kMsPerS);
    if (record.output_tokens > 1) {
      tpot.push_back((record.latency_s - record.ttft_s) * kMsPerS /
                     static_cast<double>(record.output_tokens - 1));
    }
    for (const double gap_s : record.gaps_s) itl.push_back(gap_s * kMsPerS);
    num_good += good(record, objectives) ? 1 : 0;
  }
  s.ttft_ms = distribution(std::move(ttft));
  s.tpot_ms = distribution(std::move(tpot));
  s.itl_ms = distribution(std::move(itl));
  s.e2el_ms = distribution(std::move(e2el));
  s.max_output_tokens_per_s = fullest_second(result.records);
  if (s.duration_s > 0) {
    s.request_per_s = static_cast<double>(s.num_completed) / s.duration_s;
    s.good_per_s = static_cast<double>(num_good) / s.duration_s;
    s.output_tokens_per_s = static_cast<double>(s.num_output_tokens) / s.duration_s;
    s.total_tokens_per_s =
        static_cast<double>(s.num_input_tokens + s.num_output_tokens) / s.duration_s;
  }
  return s;
}

Json summary_json(const LoadOptions& options, const LoadResult& result, const LoadSummary& s,
                  bool detailed) {
  const Arrivals& arrivals = options.arrivals;
  Json json = {{"backend", "openai"},
               {"label", nullptr},
               {"model_id", result.model},
               {"tokenizer_id", nullptr},
               {"url", options.target.url.text()},
               {"profile", options.profile.name},
               {"input_len", options.profile.input_tokens},
               {"output_len", options.profile.output_tokens},
               {"arrivals", arrivals.text()},
               {"num_prompts", result.records.size()},
               {"request_rate", arrivals.at_rate() ? Json(arrivals.rate_per_s) : Json("inf")},
               {"burstiness", arrivals.kind == Arrivals::Kind::kPoisson ? Json(1.0) : Json()},
               {"max_concurrency", arrivals.at_rate() ? Json() : Json(arrivals.concurrency)},
               {"max_concurrent_requests", result.max_concurrency},
               {"num_warmup", result.warmup.size()},
               {"duration", s.duration_s},
               {"completed", s.num_completed},
               {"failed", s.num_failed},
               {"error_kinds", s.errors},
               {"total_input_tokens", s.num_input_tokens},
               {"total_output_tokens", s.num_output_tokens},
               {"request_throughput", s.request_per_s},
               {"request_goodput", s.good_per_s},
               {"output_throughput", s.output_tokens_per_s},
               {"total_token_throughput", s.total_tokens_per_s},
               {"max_output_tokens_per_s", s.max_output_tokens_per_s},
               {"max_start_lag_ms", s.max_start_lag_ms}};
  put_distribution(json, "ttft_ms", s.ttft_ms);
  put_distribution(json, "tpot_ms", s.tpot_ms);
  put_distribution(json, "itl_ms", s.itl_ms);
  put_distribution(json, "e2el_ms", s.e2el_ms);
  if (detailed) put_details(json, result.records);
  return json;
}

}  // namespace comet::client
