// Figures of one window of a run at a steady rate, whose requests may begin before it and end
// behind it. What counts is what happened inside:
//   TTFT  of requests that arrived by the rate and had their first token in the window, and of
//   those
//         still without one at its end that have waited longer than the mean: their wait so far;
//   ITL   every gap between two content chunks that ended in the window, all requests pooled;
//   queries a second: tokens in the window / its length / tokens of an answer.
// Tokens of one step of a server come together, so the errors of ITL and throughput are of the
// means of eight equal slices of the window. Caller: rate_steps.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "comet/client/load/summary.h"

namespace comet::client {

/// A request of a stepped run. `record` fills while it runs; its times count from the loop's start.
struct SteppedRequest {
  RequestRecord record;
  bool arrived =
      true;  // by the rate; else it was sent to fill the server up, without its beginning
  bool ended = false;
  bool dropped = false;  // ended by us
};

struct RateWindow {
  double rate_per_s = 0;
  double settle_s = 0;  // before the window, at this rate
  double window_s = 0;
  int64_t num_arrivals = 0;   // in the window
  int64_t num_completed = 0;  // in the window
  int64_t num_failed = 0;     // in the window and while settling
  std::string first_error;
  int64_t in_flight_begin = 0;
  int64_t in_flight_end = 0;
  Distribution ttft_ms;
  Distribution itl_ms;
  double itl_stderr_ms = 0;
  double output_tokens_per_s = 0;
  double output_tokens_stderr = 0;
  double queries_per_s = 0;
  double queries_stderr = 0;
  double max_start_lag_ms = 0;  // sending behind schedule: the client was too busy
};

struct WindowBounds {
  double begin_s = 0;
  double end_s = 0;
  double settle_begin_s = 0;  // failures count from here on
};
RateWindow window_figures(const std::vector<std::unique_ptr<SteppedRequest>>& requests,
                          const WindowBounds& bounds, int64_t output_tokens);

}  // namespace comet::client
