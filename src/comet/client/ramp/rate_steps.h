// A rising rate in one run: evenly spaced arrivals at one rate after the other (a Poisson process
// needs minutes until its own noise is small beside a server's limit), without draining between
// them, each measured in a window once the server holds as many requests as it would hold at that
// rate for ever. To be there within seconds where an answer takes half a minute, each step begins
// by filling up: requests are sent as if they had begun earlier, with what they would have
// generated since as a part of the prompt and only the rest to answer, their ages spread evenly;
// how many is Little's law, from the throughput seen. Going down, requests are dropped. What is
// left in flight at the end is dropped too, and its tokens until then count. Caller: the study.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "comet/client/load/profile.h"
#include "comet/client/load/target.h"
#include "comet/client/ramp/rate_window.h"

namespace comet::client {

struct RateStepsOptions {
  Target target;
  Profile profile;
  double window_s = 3;
  double watch_s = 0.4;          // throughput before another filling, and before the window
  double max_settle_s = 10;      // of filling and watching; then the window begins in any case
  int64_t max_in_flight = 1024;  // filling goes no further; arrivals do
  uint64_t seed = 0;
  int64_t first_id = 300;  // of random token ids
  int64_t end_id = 4000;
};

/// Runs steps from `first_rate_per_s` on; `next` sees each window and gives the next rate, or none
/// to end. An error: nothing could be measured.
Status run_rate_steps(const RateStepsOptions& options, double first_rate_per_s,
                      const std::function<std::optional<double>(const RateWindow&)>& next);

}  // namespace comet::client
