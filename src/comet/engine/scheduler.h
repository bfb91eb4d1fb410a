// The scheduler: a pure function from the engine's state to the next step. No clock, no model.
// Continuous batching with chunked prefill; pages are taken as sequences grow; when they run out,
// the latest arrival gives its pages back and is computed again later (recompute).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace comet::engine {

struct SchedulerLimits {
  int64_t max_seqs = 64;  // sequences in one step
  // Tokens in one step: long prompts are cut into chunks. 0: what suits the device (Engine).
  int64_t max_batch_tokens = 512;
  int64_t watermark_pages = 0;    // stay free when a sequence joins others: room to grow
  int64_t max_prompt_rows = 512;  // prompt tokens in one step whose logits are wanted
};

/// What the scheduler sees of a sequence.
struct SequenceState {
  int64_t num_computed = 0;  // tokens whose K and V are cached
  int64_t num_known = 0;     // prompt and sampled tokens; above num_computed
  int64_t num_pages = 0;     // held; 0 while not admitted
  bool admitted = false;
  bool wants_prompt_rows = false;  // logits of its prompt: see SchedulerLimits::max_prompt_rows
};

struct StepPlan {
  struct Chunk {
    int64_t seq_idx;
    int64_t num_tokens;  // of the sequence, from num_computed on
    int64_t take_pages;  // before it runs
  };
  std::vector<int64_t> preempt;  // sequences that give their pages back, before all else
  std::vector<int64_t> admit;    // sequences that begin now
  std::vector<Chunk> chunks;
};

/// Pages that hold num_tokens tokens.
int64_t pages_for(int64_t num_tokens);

/// Sequences in order of arrival; the pool must hold any one of them at full length. Decodes come
/// first, then prompts under what is left of the budget, then waiting sequences while pages and
/// places last (first come, first served: no overtaking). The admitted ones are always the earliest
/// arrivals, and the first of them runs in every plan: so every sequence ends.
StepPlan plan_step(std::span<const SequenceState> sequences, int64_t num_free_pages,
                   const SchedulerLimits& limits);

}  // namespace comet::engine
