// The load generator: warms a server up, sends streaming completions of one profile as `Arrivals`
// says, and keeps a record of each. Callers: bench serve, the study. An error of run_load() means
// that nothing could be measured; failed requests are records with an error.
#pragma once

#include <functional>
#include <vector>

#include "comet/client/load/arrivals.h"
#include "comet/client/load/completion_events.h"
#include "comet/client/load/profile.h"
#include "comet/client/load/prompts.h"
#include "comet/client/load/target.h"

namespace comet::client {

struct LoadOptions {
  Target target;
  Profile profile;
  Arrivals arrivals;
  double duration_s = 0;     // no request is sent after it; 0: num_requests alone ends the run
  int64_t num_requests = 0;  // 0: the duration alone does
  int64_t num_warmup = -1;   // requests before the clock starts; -1: one, or as many as run at once
  int64_t warmup_tokens = 0;  // of their answers; 0: the profile's
  uint64_t seed = 0;
  bool text_prompts = false;
  bool ignore_eos = true;
  int64_t first_id = 300;  // of random token ids
  int64_t end_id = 4000;
  int64_t max_in_flight = 1024;  // at a rate; a request beyond it is an error of the client's
};

struct LoadResult {
  std::string model;
  std::vector<RequestRecord> records;  // in order of sending
  double duration_s = 0;               // from the first request to the last answer
  int64_t max_concurrency = 0;         // seen
  std::vector<RequestRecord> warmup;
};

/// `on_done` is called after every measured request.
Result<LoadResult> run_load(const LoadOptions& options, const std::function<void()>& on_done);

}  // namespace comet::client
