// The cells that need a server: synchronous latency, and the rising rate until the objectives
// break. Caller: runner.
#pragma once

#include "comet/client/load/load_generator.h"
#include "comet/study/runner/child_process.h"
#include "comet/study/runner/results_file.h"

namespace comet::study {

/// A `comet serve` of one model on a free port.
class StudyServer {
 public:
  /// Waits until it is ready. `command` is all of it but where its JSON goes.
  static Result<StudyServer> start(std::vector<std::string> command, const std::string& json_path,
                                   const std::string& log_path);
  [[nodiscard]] const client::Url& url() const { return url_; }
  /// How it ended, if it did; a server of a study has no reason to.
  std::optional<ProcessEnd> ended() { return process_.poll(); }
  void stop() { process_.stop(kStopSeconds); }
  /// What it says of itself and its machine.
  [[nodiscard]] const Json& envelope() const { return envelope_; }
  [[nodiscard]] const std::string& log_path() const { return log_path_; }

 private:
  static constexpr double kStopSeconds = 10;
  StudyServer(ChildProcess process, client::Url url, Json envelope, std::string log_path)
      : process_(std::move(process)),
        url_(std::move(url)),
        envelope_(std::move(envelope)),
        log_path_(std::move(log_path)) {}

  ChildProcess process_;
  client::Url url_;
  Json envelope_;
  std::string log_path_;
};

/// One request at a time: latencies and cost per query.
Result<std::vector<ResultRow>> measure_sync(const StudySpec& spec, const CellKey& cell,
                                            StudyServer& server);

/// Rates from async.first_rate (half of what one request at a time gives), each async.rate_step
/// times the last, until the objectives break or the server falls behind; then the middle of the
/// last good and the first bad one. Rows of each rate, and "async/max_queries_per_s": the best
/// completed rate within the objectives (0: none). With async.window_s all rates are one run
/// (client/ramp/rate_steps.h), and what counts as completed is tokens over an answer's tokens, at
/// most the rate.
Result<std::vector<ResultRow>> measure_async(const StudySpec& spec, const CellKey& cell,
                                             StudyServer& server);

}  // namespace comet::study
