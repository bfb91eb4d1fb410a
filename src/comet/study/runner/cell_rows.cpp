#include "comet/study/runner/cell_rows.h"

namespace comet::study {
namespace {

constexpr double kSecondsPerHour = 3600;

void add_distribution(std::vector<ResultRow>& rows, const CellKey& cell, const std::string& name,
                      const client::Distribution& d, bool only_mean_and_p99) {
  ResultRow mean = make_row(cell, name + "_mean", d.mean, "ms", d.count);
  mean.std_error = d.standard_error();
  rows.push_back(mean);
  if (!only_mean_and_p99) {
    rows.push_back(make_row(cell, name + "_p50", d.p50, "ms", d.count));
    rows.push_back(make_row(cell, name + "_p95", d.p95, "ms", d.count));
  }
  rows.push_back(make_row(cell, name + "_p99", d.p99, "ms", d.count));
}

}  // namespace

std::string unit_of(const std::string& figure) {
  if (figure.find("perplexity") != std::string::npos) return "perplexity";
  if (figure.starts_with("kl")) return "nats/token";
  if (figure == "bits_per_byte") return "bits/byte";
  if (figure.starts_with("first_divergence")) return "tokens";
  return "share";
}

ResultRow make_row(const CellKey& cell, const std::string& figure, double value,
                   const std::string& unit, int64_t n) {
  ResultRow row;
  row.model = cell.model;
  row.format = cell.format;
  row.metric = figure.empty() ? cell.metric : cell.metric + "/" + figure;
  row.profile = cell.profile;
  row.value = value;
  row.unit = unit;
  row.n = n;
  return row;
}

std::vector<ResultRow> rows_of_result(const CellKey& cell, const Json& result) {
  int64_t n = 0;
  for (const char* name : {"num_samples", "num_prompts", "num_tokens"}) {
    if (n == 0 && result.contains(name) && result.at(name).is_number_integer()) {
      n = result.at(name).get<int64_t>();
    }
  }
  std::vector<ResultRow> rows;
  for (const auto& [name, value] : result.items()) {
    if (!value.is_number() || name.starts_with("num_") || name.ends_with("_stderr")) continue;
    ResultRow row = make_row(cell, name, value.get<double>(), unit_of(name), n);
    std::string stem = name;
    // "first_divergence_mean" and "kl_mean" may have "kl_stderr" or "kl_mean_stderr".
    if (stem.ends_with("_mean")) stem.resize(stem.size() - 5);
    for (const std::string& stderr_name : {name + "_stderr", stem + "_stderr"}) {
      const auto it = result.find(stderr_name);
      if (it != result.end() && it->is_number()) row.std_error = it->get<double>();
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

double cost_per_query(double price_per_hour, double seconds) {
  return price_per_hour / kSecondsPerHour * seconds;
}

std::vector<ResultRow> rows_of_load(const CellKey& cell, const client::LoadSummary& s,
                                    bool only_mean_and_p99) {
  std::vector<ResultRow> rows;
  add_distribution(rows, cell, "latency", s.e2el_ms, only_mean_and_p99);
  add_distribution(rows, cell, "ttft", s.ttft_ms, only_mean_and_p99);
  add_distribution(rows, cell, "itl", s.itl_ms, only_mean_and_p99);
  add_distribution(rows, cell, "tpot", s.tpot_ms, only_mean_and_p99);
  rows.push_back(make_row(cell, "queries_per_s", s.request_per_s, "1/s", s.num_completed));
  rows.push_back(
      make_row(cell, "output_tokens_per_s", s.output_tokens_per_s, "tokens/s", s.num_completed));
  rows.push_back(make_row(cell, "failed", static_cast<double>(s.num_failed), "requests",
                          s.num_completed + s.num_failed));
  return rows;
}

std::vector<ResultRow> rows_of_window(const CellKey& cell, const client::RateWindow& w) {
  std::vector<ResultRow> rows;
  if (w.ttft_ms.count > 0) add_distribution(rows, cell, "ttft", w.ttft_ms, true);
  if (w.itl_ms.count > 0) add_distribution(rows, cell, "itl", w.itl_ms, true);
  for (ResultRow& row : rows) {
    if (row.metric.ends_with("/itl_mean")) row.std_error = w.itl_stderr_ms;
  }
  const auto add = [&](const char* figure, double value, const char* unit,
                       int64_t n) -> ResultRow& {
    return rows.emplace_back(make_row(cell, figure, value, unit, n));
  };
  add("queries_per_s", w.queries_per_s, "1/s", w.num_completed).std_error = w.queries_stderr;
  add("output_tokens_per_s", w.output_tokens_per_s, "tokens/s", w.num_completed).std_error =
      w.output_tokens_stderr;
  const int64_t num_requests = w.num_completed + w.num_failed;
  add("failed", static_cast<double>(w.num_failed), "requests", num_requests);
  add("arrivals", static_cast<double>(w.num_arrivals), "requests", w.num_arrivals);
  add("in_flight_begin", static_cast<double>(w.in_flight_begin), "requests", 1);
  add("in_flight_end", static_cast<double>(w.in_flight_end), "requests", 1);
  add("settle", w.settle_s, "s", 1);
  add("window", w.window_s, "s", 1);
  add("start_lag_max", w.max_start_lag_ms, "ms", w.num_arrivals);
  return rows;
}

}  // namespace comet::study
