#include "comet/engine/scheduler.h"

#include <algorithm>

#include "comet/kv/kv_format.h"

namespace comet::engine {
namespace {

/// The plan while it is made: an entry per sequence.
class Planner {
 public:
  Planner(std::span<const SequenceState> sequences, int64_t num_free_pages,
          const SchedulerLimits& limits)
      : sequences_(sequences),
        limits_(limits),
        free_pages_(num_free_pages),
        budget_(limits.max_batch_tokens),
        prompt_rows_(limits.max_prompt_rows),
        planned_(sequences.size()),
        preempted_(sequences.size(), false) {}

  StepPlan make() {
    for (const SequenceState& seq : sequences_) num_running_ += seq.admitted ? 1 : 0;
    for (const bool decodes : {true, false}) {
      for (size_t i = 0; i < sequences_.size(); ++i) {
        if (sequences_[i].admitted && (missing(i) == 1) == decodes) plan_running(i);
      }
    }
    if (plan_.preempt.empty()) admit_waiting();
    emit();
    return std::move(plan_);
  }

 private:
  struct Planned {
    int64_t num_tokens = 0;
    int64_t take_pages = 0;
  };

  [[nodiscard]] int64_t missing(size_t i) const {
    return sequences_[i].num_known - sequences_[i].num_computed;
  }

  /// A last token's logits are wanted anyway.
  [[nodiscard]] bool uses_prompt_rows(size_t i) const {
    return sequences_[i].wants_prompt_rows && missing(i) > 1;
  }

  /// Tokens of sequence i that the budgets leave room for.
  [[nodiscard]] int64_t affordable(size_t i) const {
    const int64_t tokens = std::min(missing(i), budget_);
    return uses_prompt_rows(i) ? std::min(tokens, prompt_rows_) : tokens;
  }

  void take(size_t i, int64_t num_tokens) {
    const SequenceState& seq = sequences_[i];
    const int64_t pages =
        std::max<int64_t>(0, pages_for(seq.num_computed + num_tokens) - seq.num_pages);
    planned_[i] = {num_tokens, pages};
    free_pages_ -= pages;
    budget_ -= num_tokens;
    if (uses_prompt_rows(i)) prompt_rows_ -= num_tokens;
  }

  /// Tokens of sequence i for which there are pages.
  [[nodiscard]] int64_t housed(size_t i) const {
    const SequenceState& seq = sequences_[i];
    return (seq.num_pages + free_pages_) * kv::kPageTokens - seq.num_computed;
  }

  void plan_running(size_t i) {
    if (preempted_[i] || affordable(i) < 1) return;
    while (housed(i) < 1) {
      const size_t victim = latest_running();
      preempt(victim);
      if (victim == i) return;
    }
    take(i, std::min(affordable(i), housed(i)));
  }

  [[nodiscard]] size_t latest_running() const {
    size_t i = sequences_.size() - 1;
    while (!sequences_[i].admitted || preempted_[i]) --i;
    return i;
  }

  /// Takes back what sequence i holds and what this plan gave it.
  void preempt(size_t i) {
    preempted_[i] = true;
    plan_.preempt.push_back(static_cast<int64_t>(i));
    free_pages_ += sequences_[i].num_pages + planned_[i].take_pages;
    budget_ += planned_[i].num_tokens;
    if (uses_prompt_rows(i)) prompt_rows_ += planned_[i].num_tokens;
    planned_[i] = {};
  }

  /// A place per sequence and step: with as many running as the budget has tokens, all still move.
  void admit_waiting() {
    const int64_t places = std::min(limits_.max_seqs, limits_.max_batch_tokens);
    int64_t promised = 0;  // pages that running prompts have yet to take
    for (size_t i = 0; i < sequences_.size(); ++i) {
      const SequenceState& seq = sequences_[i];
      if (!seq.admitted) continue;
      promised +=
          std::max<int64_t>(0, pages_for(seq.num_known) - seq.num_pages - planned_[i].take_pages);
    }
    for (size_t i = 0; i < sequences_.size() && num_running_ < places; ++i) {
      if (sequences_[i].admitted) continue;
      const int64_t spare = num_running_ > 0 ? limits_.watermark_pages : 0;
      const int64_t needed = pages_for(sequences_[i].num_known);
      const int64_t num_tokens = affordable(i);
      if (num_tokens < 1 || needed + promised + spare > free_pages_) return;
      plan_.admit.push_back(static_cast<int64_t>(i));
      ++num_running_;
      take(i, num_tokens);
      promised += needed - planned_[i].take_pages;
    }
  }

  void emit() {
    for (const bool decodes : {true, false}) {
      for (size_t i = 0; i < sequences_.size(); ++i) {
        const Planned& planned = planned_[i];
        if (planned.num_tokens == 0 || (missing(i) == 1) != decodes) continue;
        plan_.chunks.push_back({static_cast<int64_t>(i), planned.num_tokens, planned.take_pages});
      }
    }
  }

  std::span<const SequenceState> sequences_;
  const SchedulerLimits& limits_;
  int64_t free_pages_;
  int64_t budget_;
  int64_t prompt_rows_;
  int64_t num_running_ = 0;
  std::vector<Planned> planned_;
  std::vector<bool> preempted_;
  StepPlan plan_;
};

}  // namespace

int64_t pages_for(int64_t num_tokens) {
  return (num_tokens + kv::kPageTokens - 1) / kv::kPageTokens;
}

StepPlan plan_step(std::span<const SequenceState> sequences, int64_t num_free_pages,
                   const SchedulerLimits& limits) {
  return Planner(sequences, num_free_pages, limits).make();
}

}  // namespace comet::engine
