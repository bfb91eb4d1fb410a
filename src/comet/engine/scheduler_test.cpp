#include "comet/engine/scheduler.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "comet/base/rng.h"
#include "comet/kv/kv_cache.h"

namespace comet::engine {
namespace {

constexpr int64_t kPage = kv::kPageTokens;

/// A request as the simulation knows it.
struct Job {
  int64_t arrival = 0;
  int64_t num_prompt = 0;
  int64_t num_output = 0;  // to be made
  bool wants_prompt_rows = false;
  int64_t num_made = 0;
  SequenceState state;
  std::vector<int32_t> pages;
  int64_t num_preempted = 0;
};

struct Workload {
  SchedulerLimits limits;
  int64_t num_pages = 0;
  int64_t max_len = 0;
  double arrival_rate = 0;
  int64_t num_jobs = 0;
};

Workload random_workload(Rng& rng) {
  const auto below = [&](uint64_t n) { return static_cast<int64_t>(rng.next_below(n)); };
  Workload w;
  w.limits.max_seqs = 1 + below(12);
  w.limits.max_batch_tokens = 1 + below(150);
  w.limits.watermark_pages = below(3);
  w.limits.max_prompt_rows = 1 + below(40);
  w.max_len = 2 + below(8 * kPage);
  w.num_pages = pages_for(w.max_len) + below(20);  // any one fits, many do not
  w.arrival_rate = rng.next_uniform();
  w.num_jobs = 1 + below(25);
  return w;
}

/// Runs plan_step as the engine does and checks every promise on the way.
class Simulation {
 public:
  Simulation(const Workload& workload, Rng& rng)
      : w_(workload), rng_(rng), pool_(workload.num_pages) {}

  void run() {
    int64_t work = 0;
    while (num_arrived_ < w_.num_jobs || !jobs_.empty()) {
      while (num_arrived_ < w_.num_jobs && rng_.next_uniform() < w_.arrival_rate) {
        work += arrive();
      }
      if (jobs_.empty()) {
        if (num_arrived_ < w_.num_jobs) work += arrive();
        continue;
      }
      step();
      if (testing::Test::HasFatalFailure()) return;
      ASSERT_LT(++num_steps_, 200 + 40 * work) << "starved";
      if (rng_.next_below(200) == 0 && !jobs_.empty()) cancel(rng_.next_below(jobs_.size()));
    }
    EXPECT_EQ(pool_.num_free(), w_.num_pages);
  }

  [[nodiscard]] int64_t num_preemptions() const { return num_preemptions_; }

 private:
  int64_t arrive() {
    Job job;
    job.arrival = num_arrived_++;
    job.num_prompt = 1 + static_cast<int64_t>(rng_.next_below(w_.max_len - 1));
    job.num_output = 1 + static_cast<int64_t>(rng_.next_below(w_.max_len - job.num_prompt));
    job.wants_prompt_rows = rng_.next_below(4) == 0;
    job.state.num_known = job.num_prompt;
    jobs_.push_back(job);
    return job.num_prompt + job.num_output;
  }

  void release(Job& job) {
    pool_.give_back(job.pages);  // throws when a page is not taken: none used twice
    job.pages.clear();
    job.state.admitted = false;
    job.state.num_computed = 0;
    job.state.num_pages = 0;
  }

  void cancel(size_t i) {
    if (jobs_[i].state.admitted) release(jobs_[i]);
    jobs_.erase(jobs_.begin() + static_cast<int64_t>(i));
  }

  void step() {
    std::vector<SequenceState> states;
    for (Job& job : jobs_) {
      job.state.wants_prompt_rows = job.wants_prompt_rows && job.num_made == 0;
      states.push_back(job.state);
    }
    const StepPlan plan = plan_step(states, pool_.num_free(), w_.limits);
    ASSERT_FALSE(plan.chunks.empty());
    check_preemptions(plan);
    for (const int64_t i : plan.admit) {
      ASSERT_FALSE(jobs_[i].state.admitted);
      jobs_[i].state.admitted = true;
    }
    check_order();
    run_chunks(plan);
    if (testing::Test::HasFatalFailure()) return;
    std::erase_if(jobs_, [&](Job& job) {
      if (job.num_made < job.num_output) return false;
      release(job);
      return true;
    });
  }

  void check_preemptions(const StepPlan& plan) {
    for (const int64_t i : plan.preempt) {
      ASSERT_TRUE(jobs_[i].state.admitted);
      // The victim is the latest of those that run.
      for (size_t j = static_cast<size_t>(i) + 1; j < jobs_.size(); ++j) {
        ASSERT_FALSE(jobs_[j].state.admitted);
      }
      release(jobs_[i]);
      ++jobs_[i].num_preempted;
      ++num_preemptions_;
    }
    ASSERT_TRUE(plan.preempt.empty() || plan.admit.empty()) << "took back and gave at once";
  }

  /// First come, first served: who runs came before everybody who waits.
  void check_order() {
    int64_t num_running = 0;
    for (size_t i = 0; i < jobs_.size(); ++i) {
      if (!jobs_[i].state.admitted) continue;
      ASSERT_EQ(num_running, static_cast<int64_t>(i)) << "overtaken";
      ++num_running;
    }
    ASSERT_LE(num_running, w_.limits.max_seqs);
  }

  void run_chunks(const StepPlan& plan) {
    int64_t num_tokens = 0;
    int64_t num_prompt_rows = 0;
    std::vector<bool> seen(jobs_.size(), false);
    for (const StepPlan::Chunk& chunk : plan.chunks) {
      Job& job = jobs_[chunk.seq_idx];
      ASSERT_TRUE(job.state.admitted);
      ASSERT_FALSE(seen[chunk.seq_idx]);
      seen[chunk.seq_idx] = true;
      ASSERT_GE(chunk.num_tokens, 1);
      ASSERT_TRUE(pool_.take(chunk.take_pages, job.pages));
      job.state.num_pages = static_cast<int64_t>(job.pages.size());
      if (job.state.wants_prompt_rows && chunk.num_tokens > 1) num_prompt_rows += chunk.num_tokens;
      num_tokens += chunk.num_tokens;
      job.state.num_computed += chunk.num_tokens;
      ASSERT_LE(job.state.num_computed, job.state.num_known);
      ASSERT_EQ(job.state.num_pages, pages_for(job.state.num_computed)) << "as many as needed";
      if (job.state.num_computed < job.state.num_known) continue;
      ++job.num_made;
      ++job.state.num_known;
    }
    ASSERT_LE(num_tokens, w_.limits.max_batch_tokens);
    ASSERT_LE(num_prompt_rows, w_.limits.max_prompt_rows);
    ASSERT_TRUE(seen[0]) << "the earliest arrival stood still";
  }

  const Workload& w_;
  Rng& rng_;
  kv::PagePool pool_;
  std::vector<Job> jobs_;
  int64_t num_arrived_ = 0;
  int64_t num_steps_ = 0;
  int64_t num_preemptions_ = 0;
};

TEST(Scheduler, KeepsItsPromisesOnRandomWorkloads) {
  int64_t num_preemptions = 0;
  for (uint64_t seed = 0; seed < 3000; ++seed) {
    SCOPED_TRACE(seed);
    Rng rng(seed);
    const Workload workload = random_workload(rng);
    Simulation simulation(workload, rng);
    simulation.run();
    num_preemptions += simulation.num_preemptions();
    if (testing::Test::HasFailure()) return;
  }
  EXPECT_GT(num_preemptions, 1000) << "the workloads no longer test preemption";
}

SequenceState running(int64_t num_computed, int64_t num_known) {
  return {num_computed, num_known, pages_for(num_computed), true, false};
}
SequenceState waiting(int64_t num_known) { return {0, num_known, 0, false, false}; }

TEST(Scheduler, DecodesComeBeforePromptsAndAllDecodesRun) {
  std::vector<SequenceState> states{running(10, 500)};
  for (int i = 0; i < 7; ++i) states.push_back(running(5, 6));
  const StepPlan plan = plan_step(states, 100, {.max_seqs = 8, .max_batch_tokens = 16});
  ASSERT_EQ(plan.chunks.size(), 8U);
  for (int i = 0; i < 7; ++i) EXPECT_EQ(plan.chunks[i].num_tokens, 1);
  EXPECT_EQ(plan.chunks[7].seq_idx, 0);
  EXPECT_EQ(plan.chunks[7].num_tokens, 9);
}

TEST(Scheduler, ABudgetSmallerThanThePlacesLimitsTheRunning) {
  std::vector<SequenceState> states;
  for (int i = 0; i < 200; ++i) states.push_back(waiting(1));
  const StepPlan plan = plan_step(states, 1000, {.max_seqs = 200, .max_batch_tokens = 64});
  EXPECT_EQ(plan.admit.size(), 64U);  // each of them will run in every step
}

TEST(Scheduler, TheLatestArrivalIsPreempted) {
  // Both need a page for their next token and one is free.
  const std::vector<SequenceState> states{running(kPage, kPage + 1), running(kPage, kPage + 1),
                                          running(kPage, kPage + 1)};
  const StepPlan plan = plan_step(states, 1, {});
  ASSERT_EQ(plan.preempt, std::vector<int64_t>{2});
  ASSERT_EQ(plan.chunks.size(), 2U);
  EXPECT_EQ(plan.chunks[0].take_pages + plan.chunks[1].take_pages, 2);
}

TEST(Scheduler, APlannedDecodeGivesWayToAnEarlierPrompt) {
  // The prompt stands at a page's end, nothing is free: the later decode must go.
  const std::vector<SequenceState> states{running(kPage, 3 * kPage), running(3, 4)};
  const StepPlan plan = plan_step(states, 0, {});
  EXPECT_EQ(plan.preempt, std::vector<int64_t>{1});
  ASSERT_EQ(plan.chunks.size(), 1U);
  EXPECT_EQ(plan.chunks[0].seq_idx, 0);
  EXPECT_EQ(plan.chunks[0].num_tokens, kPage);
}

TEST(Scheduler, WaitsForPagesAndKeepsTheWatermark) {
  const std::vector<SequenceState> states{running(5, 6), waiting(2 * kPage), waiting(1)};
  EXPECT_TRUE(plan_step(states, 1, {}).admit.empty());  // the third does not overtake
  EXPECT_TRUE(plan_step(states, 2, {.watermark_pages = 1}).admit.empty());
  EXPECT_EQ(plan_step(states, 3, {.watermark_pages = 1}).admit.size(), 1U);
  EXPECT_EQ(plan_step(states, 4, {.watermark_pages = 1}).admit.size(), 2U);
  // Alone, a sequence needs no room to spare.
  const std::vector<SequenceState> alone{waiting(2 * kPage)};
  EXPECT_EQ(plan_step(alone, 2, {.watermark_pages = 1}).admit.size(), 1U);
}

TEST(Scheduler, PagesPromisedToARunningPromptAreNotGivenAway) {
  // The running prompt takes a page now and will need 8 more.
  std::vector<SequenceState> states{running(kPage, 10 * kPage), waiting(2 * kPage)};
  states[0].wants_prompt_rows = true;
  const SchedulerLimits limits{.max_prompt_rows = kPage};
  EXPECT_TRUE(plan_step(states, 10, limits).admit.empty());
  EXPECT_EQ(plan_step(states, 11, limits).admit.size(), 1U);
}

}  // namespace
}  // namespace comet::engine
