#include "comet/study/runner/load_cells.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <thread>

#include "comet/base/clock.h"
#include "comet/client/ramp/rate_steps.h"
#include "comet/io/file.h"
#include "comet/study/runner/cell_rows.h"

namespace comet::study {
namespace {

constexpr double kReadySeconds = 600;  // a large model on a slow disk
constexpr size_t kMaxJsonBytes = size_t{1} << 20;
constexpr double kFirstRateShare = 0.5;  // of one request at a time
constexpr double kKeepsUpShare = 0.9;    // completed of offered; below, the queue grows
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

/// A server that died says so.
Status check_alive(StudyServer& server, bool ran_well) {
  // A process that was killed needs a moment to be seen as such.
  if (!ran_well) std::this_thread::sleep_for(std::chrono::milliseconds(100));
  if (const auto ended = server.ended()) {
    return make_error(ErrorCode::kIo, "the server died ({}); its log is {}", ended->text(),
                      server.log_path());
  }
  return {};
}

/// A run whose every failure is the cell's.
Result<client::LoadResult> checked_run(const client::LoadOptions& load, StudyServer& server) {
  auto result = client::run_load(load, [] {});
  if (const Status alive = check_alive(server, result.ok()); !alive) return alive.error();
  if (!result) return result.error();
  return result;
}

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

bool within(const StudySlo& slo, const client::Distribution& ttft_ms,
            const client::Distribution& itl_ms) {
  return (slo.ttft_p99_ms <= 0 || ttft_ms.p99 <= slo.ttft_p99_ms) &&
         (slo.itl_p99_ms <= 0 || itl_ms.p99 <= slo.itl_p99_ms);
}

/// Which rate comes next: up until one is bad, then down until one is good, then the middle.
class RateSearch {
 public:
  RateSearch(const StudySpec& spec, double first_rate_per_s)
      : step_(spec.async.rate_step), rate_per_s_(first_rate_per_s), num_left_(spec.max_rates) {}

  [[nodiscard]] double rate_per_s() const { return rate_per_s_; }
  /// How the rate in hand was; false: it was the last.
  bool next(bool good) {
    (good ? good_rate_ : bad_rate_) = rate_per_s_;
    if (--num_left_ <= 0 || refined_) return false;
    if (good_rate_ > 0 && bad_rate_ > 0) {
      refined_ = true;
      rate_per_s_ = std::sqrt(good_rate_ * bad_rate_);
    } else {
      rate_per_s_ = good ? rate_per_s_ * step_ : rate_per_s_ / step_ / step_;
    }
    return true;
  }

 private:
  double step_;
  double rate_per_s_;
  int64_t num_left_;
  bool refined_ = false;
  double good_rate_ = 0;  // the last; 0: none
  double bad_rate_ = 0;
};

/// The rows of one cell's sweep, point by point.
class SweepRows {
 public:
  SweepRows(const StudySpec& spec, const CellKey& cell) : spec_(spec), cell_(cell) {}

  /// `counted_per_s`: completed within the objectives; 0: none.
  void add(double rate_per_s, double counted_per_s, bool good, std::vector<ResultRow> rows) {
    ++num_points_;
    most_per_s_ = std::max(most_per_s_, counted_per_s);
    for (ResultRow& row : rows) {
      row.rate_per_s = rate_per_s;
      row.within_slo = good;
      rows_.push_back(std::move(row));
    }
  }
  [[nodiscard]] uint64_t num_points() const { return static_cast<uint64_t>(num_points_); }

  std::vector<ResultRow> take() && {
    rows_.push_back(make_row(cell_, "max_queries_per_s", most_per_s_, "1/s", num_points_));
    if (spec_.price_per_hour > 0 && most_per_s_ > 0) {
      rows_.push_back(make_row(cell_, "cost_per_query",
                               cost_per_query(spec_.price_per_hour, 1 / most_per_s_), "$",
                               num_points_));
    }
    return std::move(rows_);
  }

 private:
  const StudySpec& spec_;
  const CellKey& cell_;
  int64_t num_points_ = 0;
  double most_per_s_ = 0;
  std::vector<ResultRow> rows_;
};

/// Latency of a request that is alone.
Result<double> latency_alone(const StudySpec& spec, client::LoadOptions load, StudyServer& server) {
  load.num_requests = kNumProbes;
  load.seed = spec.seed + 1;
  const auto probed = checked_run(load, server);
  if (!probed) return probed.error();
  const client::LoadSummary s = client::summarize(*probed, {});
  if (s.num_completed == 0) {
    return make_error(ErrorCode::kIo, "no request was completed; the first error: {}",
                      s.first_error);
  }
  return s.e2el_ms.mean / kMsPerS;
}

struct SweepStart {
  double rate_per_s = 0;
  double latency_s = 0;  // of a request that is alone
};

/// Each rate a run of its own, drained.
Result<std::vector<ResultRow>> sweep_runs(const StudySpec& spec, const CellKey& cell,
                                          StudyServer& server, client::LoadOptions load,
                                          const SweepStart& start) {
  SweepRows rows(spec, cell);
  RateSearch search(spec, start.rate_per_s);
  bool good = false;
  do {
    const double rate_per_s = search.rate_per_s();
    load.arrivals = {client::Arrivals::Kind::kPoisson, 1, rate_per_s};
    // No prompt comes twice to a server.
    load.seed = spec.seed + 1000 * (rows.num_points() + 1);
    const auto result = checked_run(load, server);
    if (!result) return result.error();
    const client::LoadSummary s = client::summarize(*result, {});
    good = s.num_failed == 0 && s.num_completed > 0 && within(spec.slo, s.ttft_ms, s.itl_ms) &&
           keeps_up(*result, s, start.latency_s);
    rows.add(rate_per_s, good ? s.request_per_s : 0, good, rows_of_load(cell, s, true));
  } while (search.next(good));
  return std::move(rows).take();
}

/// All rates in one run.
Result<std::vector<ResultRow>> sweep_steps(const StudySpec& spec, const CellKey& cell,
                                           StudyServer& server, const client::LoadOptions& load,
                                           double first_rate_per_s) {
  client::RateStepsOptions options;
  options.target = load.target;
  options.profile = load.profile;
  options.window_s = spec.async.window_s;
  options.max_in_flight = spec.async.max_in_flight;
  options.seed = spec.seed + 1000;
  SweepRows rows(spec, cell);
  RateSearch search(spec, first_rate_per_s);
  const auto next = [&](const client::RateWindow& window) -> std::optional<double> {
    const bool kept = window.num_failed == 0 && window.itl_ms.count > 0 &&
                      within(spec.slo, window.ttft_ms, window.itl_ms);
    const bool keeps_up = window.queries_per_s >= kKeepsUpShare * window.rate_per_s;
    // A server that is asked for more than it can give still keeps the objectives for a while, and
    // shows what it can give: offered just that, it would hold no more requests than now.
    const double counted_per_s = kept ? std::min(window.queries_per_s, window.rate_per_s) : 0;
    rows.add(window.rate_per_s, counted_per_s, kept && keeps_up, rows_of_window(cell, window));
    const bool found = kept && !keeps_up;
    if (server.ended() || found || !search.next(kept)) return std::nullopt;
    return search.rate_per_s();
  };
  const Status ran = client::run_rate_steps(options, first_rate_per_s, next);
  if (const Status alive = check_alive(server, ran.ok()); !alive) return alive.error();
  if (!ran) return ran.error();
  return std::move(rows).take();
}

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
  auto json = parse_json(*text, json_path);
  if (!json) return json.error();
  const auto url =
      client::parse_url(json->value(Json::json_pointer("/result/url"), std::string("(no url)")));
  if (!url) return url.error();
  return StudyServer(*std::move(process), *url, *std::move(json), log_path);
}

Result<std::vector<ResultRow>> measure_sync(const StudySpec& spec, const CellKey& cell,
                                            StudyServer& server) {
  auto load = load_options(spec, cell, server);
  if (!load) return load.error();
  load->duration_s = spec.sync.duration_s;
  load->num_requests = spec.sync.num_requests;
  load->warmup_tokens = spec.sync.warmup_tokens;
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
  const StudyFormat& format = *std::ranges::find(spec.formats, cell.format, &StudyFormat::name);
  double first_rate = spec.async.first_rate(cell.profile) * format.rate_factor;
  double latency_s = 0;
  if (first_rate <= 0 || spec.async.window_s <= 0) {
    const auto alone = latency_alone(spec, *load, server);
    if (!alone) return alone.error();
    latency_s = *alone;
    if (first_rate <= 0) first_rate = kFirstRateShare / latency_s;
  }
  if (spec.async.window_s > 0) return sweep_steps(spec, cell, server, *load, first_rate);
  load->duration_s = spec.async.duration_s;
  load->num_requests = spec.async.num_requests;
  load->warmup_tokens = spec.async.warmup_tokens;
  return sweep_runs(spec, cell, server, *load, {first_rate, latency_s});
}

}  // namespace comet::study
