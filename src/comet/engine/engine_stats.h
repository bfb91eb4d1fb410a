// EngineStats: what the engine tells of itself: gauges of now and counters since it was made.
// Readers: the server's metrics and health, bench throughput.
#pragma once

#include <cstdint>

namespace comet::engine {

struct EngineStats {
  // Gauges.
  int64_t num_running = 0;
  int64_t num_waiting = 0;  // queued, not yet admitted, or preempted
  int64_t num_free_pages = 0;
  int64_t num_pages = 0;
  // Counters.
  int64_t num_steps = 0;
  int64_t num_prompt_tokens = 0;      // of requests whose prompt is done; recomputing counts not
  int64_t num_generation_tokens = 0;  // published
  int64_t num_preemptions = 0;
  int64_t num_finished_stop = 0;
  int64_t num_finished_length = 0;
  int64_t num_cancelled = 0;
  int64_t num_failed = 0;
  // Steps that only decoded: their duration, and the part of it that the device stood still for the
  // host, which planned, built the batch and published.
  double decode_s = 0;
  double decode_host_s = 0;
  // The last step.
  double last_step_s = 0;         // how long it took
  int64_t last_batch_tokens = 0;  // tokens it ran through the model
  int64_t last_batch_seqs = 0;
};

}  // namespace comet::engine
