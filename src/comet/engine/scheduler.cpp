#include "comet/engine/scheduler.h"

#include <algorithm>

namespace comet::engine {

StepPlan plan_step(std::span<const SequenceState> sequences, int64_t num_free_pages,
                   const SchedulerLimits& limits) {
  StepPlan plan;
  int64_t budget = limits.max_batch_tokens;
  int64_t places = limits.max_seqs;
  const auto take = [&](size_t seq_idx, int64_t num_tokens) {
    plan.chunks.push_back({static_cast<int64_t>(seq_idx), num_tokens});
    budget -= num_tokens;
  };
  for (size_t i = 0; i < sequences.size(); ++i) {
    const SequenceState& seq = sequences[i];
    places -= seq.admitted ? 1 : 0;
    if (seq.admitted && seq.num_known - seq.num_computed == 1 && budget > 0) take(i, 1);
  }
  for (size_t i = 0; i < sequences.size() && budget > 0; ++i) {
    const SequenceState& seq = sequences[i];
    const int64_t missing = seq.num_known - seq.num_computed;
    if (seq.admitted && missing > 1) take(i, std::min(missing, budget));
  }
  for (size_t i = 0; i < sequences.size() && budget > 0 && places > 0; ++i) {
    const SequenceState& seq = sequences[i];
    if (seq.admitted) continue;
    if (seq.pages_needed > num_free_pages) break;
    num_free_pages -= seq.pages_needed;
    --places;
    plan.admit.push_back(static_cast<int64_t>(i));
    take(i, std::min(seq.num_known - seq.num_computed, budget));
  }
  return plan;
}

}  // namespace comet::engine
