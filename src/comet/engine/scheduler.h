// The scheduler: a pure function from the engine's state to the next step. No clock, no model.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace comet::engine {

struct SchedulerLimits {
  int64_t max_seqs = 64;           // sequences in one step
  int64_t max_batch_tokens = 512;  // tokens in one step: long prompts are cut into chunks
};

/// What the scheduler sees of a sequence. Pages are reserved at admission for prompt and output.
struct SequenceState {
  int64_t num_computed = 0;  // tokens whose K and V are cached
  int64_t num_known = 0;     // prompt and sampled tokens
  int64_t pages_needed = 0;  // at full length
  bool admitted = false;
};

struct StepPlan {
  struct Chunk {
    int64_t seq_idx;
    int64_t num_tokens;  // of the sequence, from num_computed on
  };
  std::vector<int64_t> admit;  // sequences that take their pages now
  std::vector<Chunk> chunks;
};

/// Sequences in order of arrival. Decodes come first, then prompts under what is left of the
/// budget, then waiting sequences while pages and places last (first come, first served: no
/// overtaking).
StepPlan plan_step(std::span<const SequenceState> sequences, int64_t num_free_pages,
                   const SchedulerLimits& limits);

}  // namespace comet::engine
