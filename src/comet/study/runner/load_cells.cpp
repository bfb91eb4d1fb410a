#include "comet/study/runner/load_cells.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <thread>

#include "comet/base/clock.h"
#include "comet/io/file.h"
#include "comet/study/runner/cell_rows.h"

namespace comet::study {
namespace {

constexpr double kReadySeconds = 600;  // a large model on a slow disk
constexpr size_t kMaxJsonBytes = size_t{1} << 20;
constexpr double kFirstRateShare = 0.5;  // of one request at a time
constexpr double kRateStep = 1.5;
constexpr double kKeepsUpShare = 0.9;  // completed of offered; below, the queue grows
constexpr int64_t kNumProbes = 3;
constexpr double kMsPerS = 1e3;

Result<client::Profile> profile_of(const StudySpec& spec, const std::string& name) {
  for (const client::Profile& profile : spec.profiles) {
    if (profile.name == name) return profile;
  }
  return make_error(ErrorCode::kInvalidArgument, "profile '{}' is not in the spec", name);
}

Result<client::LoadOptions> load_options(const StudySpec& spec, const CellKey& cell,
                                         StudyServer& server) {
  auto profile = profile_of(spec, cell.profile);
  if (!profile) return profile.error();
  client::LoadOptions load;
  load.target.url = server.url();
  load.profile = *std::move(profile);
  load.seed = spec.seed;
  return load;
}

/// A run whose every failure is the cell's; a server that died says so.
Result<client::LoadResult> checked_run(const client::LoadOptions& load, StudyServer& server) {
  auto result = client::run_load(load, [] {});
  // A process that was killed needs a moment to be seen as such.
  if (!result) std::this_thread::sleep_for(std::chrono::milliseconds(100));
  if (const auto ended = server.ended()) {
    return make_error(ErrorCode::kIo, "the server died ({}); its log is {}", ended->text(),
                      server.log_path());
  }
  if (!result) return result.error();
  return result;
}

struct RatePoint {
  double rate_per_s = 0;
  double completed_per_s = 0;
  bool good = false;
};

/// Whether requests were completed at the rate at which they came. The last answer's own time is
/// no sign of a queue: twice that of a lone request, since others run beside it.
bool keeps_up(const client::LoadResult& result, const client::LoadSummary& s, double latency_s) {
  if (result.records.size() < 2 || s.num_completed == 0) return s.num_failed == 0;
  const double window_s = result.records.back().sent_s;
  const double busy_s = std::max(window_s, s.duration_s - 2 * latency_s);
  if (busy_s <= 0) return true;
  const double offered = static_cast<double>(result.records.size()) / std::max(window_s, 1e-9);
  return static_cast<double>(s.num_completed) / busy_s >= kKeepsUpShare * offered;
}

bool within(const StudySlo& slo, const client::LoadSummary& s) {
  return (slo.ttft_p99_ms <= 0 || s.ttft_ms.p99 <= slo.ttft_p99_ms) &&
         (slo.itl_p99_ms <= 0 || s.itl_ms.p99 <= slo.itl_p99_ms);
}

/// The sweep of one cell.
class Sweep {
 public:
  Sweep(const StudySpec& spec, const CellKey& cell, StudyServer& server, client::LoadOptions load,
        double latency_s)
      : spec_(spec), cell_(cell), server_(server), load_(std::move(load)), latency_s_(latency_s) {}

  Status run() {
    double rate_per_s = kFirstRateShare / latency_s_;
    std::optional<double> good_rate;
    std::optional<double> bad_rate;
    while (static_cast<int64_t>(points_.size()) < spec_.max_rates) {
      auto good = measure(rate_per_s);
      if (!good) return good.error();
      (*good ? good_rate : bad_rate) = rate_per_s;
      if (good_rate && bad_rate) {
        if (refined_) break;
        refined_ = true;
        rate_per_s = std::sqrt(*good_rate * *bad_rate);
      } else {
        rate_per_s = *good ? rate_per_s * kRateStep : rate_per_s / kRateStep / kRateStep;
      }
    }
    return {};
  }

  std::vector<ResultRow> rows() && {
    const RatePoint* best = nullptr;
    for (const RatePoint& point : points_) {
      if (point.good && (best == nullptr || point.completed_per_s > best->completed_per_s)) {
        best = &point;
      }
    }
    const auto num_points = static_cast<int64_t>(points_.size());
    const double most = best == nullptr ? 0 : best->completed_per_s;
    rows_.push_back(make_row(cell_, "max_queries_per_s", most, "1/s", num_points));
    if (spec_.price_per_hour > 0 && most > 0) {
      rows_.push_back(make_row(cell_, "cost_per_query",
                               cost_per_query(spec_.price_per_hour, 1 / most), "$", num_points));
    }
    return std::move(rows_);
  }

 private:
  Result<bool> measure(double rate_per_s) {
    load_.arrivals = {client::Arrivals::Kind::kPoisson, 1, rate_per_s};
    load_.seed = spec_.seed + 1000 * (points_.size() + 1);  // no prompt comes twice to a server
    const auto result = checked_run(load_, server_);
    if (!result) return result.error();
    const client::LoadSummary s = client::summarize(*result, {});
    const bool good = s.num_failed == 0 && s.num_completed > 0 && within(spec_.slo, s) &&
                      keeps_up(*result, s, latency_s_);
    points_.push_back({rate_per_s, s.request_per_s, good});
    for (ResultRow& row : rows_of_load(cell_, s, true)) {
      row.rate_per_s = rate_per_s;
      row.within_slo = good;
      rows_.push_back(std::move(row));
    }
    return good;
  }

  const StudySpec& spec_;
  const CellKey& cell_;
  StudyServer& server_;
  client::LoadOptions load_;
  double latency_s_;
  bool refined_ = false;
  std::vector<RatePoint> points_;
  std::vector<ResultRow> rows_;
};

}  // namespace

Result<StudyServer> StudyServer::start(std::vector<std::string> command,
                                       const std::string& json_path, const std::string& log_path) {
  std::error_code ignored;
  std::filesystem::remove(json_path, ignored);
  command.insert(command.end(), {"--json", json_path});
  auto process = ChildProcess::start(command, log_path);
  if (!process) return process.error();
  const Stopwatch clock;
  while (!std::filesystem::exists(json_path, ignored)) {
    if (const auto ended = process->poll()) {
      return make_error(ErrorCode::kIo, "the server did not start ({}): {}", ended->text(),
                        last_words(log_path));
    }
    if (clock.seconds() > kReadySeconds) {
      return make_error(ErrorCode::kIo, "the server was not ready after {} s; its log is {}",
                        kReadySeconds, log_path);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  const auto text = io::read_file(json_path, kMaxJsonBytes);
  if (!text) return text.error();
  const auto json = parse_json(*text, json_path);
  if (!json) return json.error();
  const auto url =
      client::parse_url(json->value(Json::json_pointer("/result/url"), std::string("(no url)")));
  if (!url) return url.error();
  return StudyServer(*std::move(process), *url, log_path);
}

Result<std::vector<ResultRow>> measure_sync(const StudySpec& spec, const CellKey& cell,
                                            StudyServer& server) {
  auto load = load_options(spec, cell, server);
  if (!load) return load.error();
  load->duration_s = spec.sync.duration_s;
  load->num_requests = spec.sync.num_requests;
  const auto result = checked_run(*load, server);
  if (!result) return result.error();
  const client::LoadSummary s = client::summarize(*result, {});
  if (s.num_completed == 0 || s.num_failed > 0) {
    return make_error(ErrorCode::kIo, "{} of {} requests failed; the first: {}", s.num_failed,
                      s.num_completed + s.num_failed, s.first_error);
  }
  std::vector<ResultRow> rows = rows_of_load(cell, s, false);
  if (spec.price_per_hour > 0) {
    ResultRow cost = make_row(cell, "cost_per_query",
                              cost_per_query(spec.price_per_hour, s.e2el_ms.mean / kMsPerS), "$",
                              s.num_completed);
    cost.std_error = cost_per_query(spec.price_per_hour, s.e2el_ms.standard_error() / kMsPerS);
    rows.push_back(cost);
  }
  return rows;
}

Result<std::vector<ResultRow>> measure_async(const StudySpec& spec, const CellKey& cell,
                                             StudyServer& server) {
  auto load = load_options(spec, cell, server);
  if (!load) return load.error();
  client::LoadOptions probe = *load;
  probe.num_requests = kNumProbes;
  probe.seed = spec.seed + 1;
  const auto probed = checked_run(probe, server);
  if (!probed) return probed.error();
  const client::LoadSummary s = client::summarize(*probed, {});
  if (s.num_completed == 0) {
    return make_error(ErrorCode::kIo, "no request was completed; the first error: {}",
                      s.first_error);
  }
  load->duration_s = spec.async.duration_s;
  load->num_requests = spec.async.num_requests;
  Sweep sweep(spec, cell, server, *load, s.e2el_ms.mean / kMsPerS);
  if (const Status swept = sweep.run(); !swept) return swept.error();
  return std::move(sweep).rows();
}

}  // namespace comet::study
