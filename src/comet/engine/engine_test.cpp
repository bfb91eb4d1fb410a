#include "comet/engine/engine.h"

#include <gtest/gtest.h>

#include <array>
#include <map>

#include "comet/base/rng.h"
#include "comet/models/load.h"

namespace comet::engine {
namespace {

class DemoModel : public testing::Test {
 protected:
  void SetUp() override {
    runtime_ = Runtime::cpu(detect_cpu_isa(), 2);
    checkpoint_.emplace(io::Checkpoint::open(COMET_SOURCE_DIR "/models/demo").value());
    model_ = models::load_model(*checkpoint_, runtime_->context().caps, "").value();
  }

  std::unique_ptr<Engine> make_engine(int64_t max_batch_tokens, int64_t max_seqs) {
    EngineOptions options;
    options.limits = {max_seqs, max_batch_tokens};
    options.max_model_len = 128;
    options.kv_memory_bytes = int64_t{64} << 20;
    return Engine::create(runtime_->context(), *model_, options).value();
  }

  /// Outputs of requests that all arrive at once.
  static std::map<int64_t, std::vector<int32_t>> run(Engine& engine,
                                                     const std::vector<Request>& requests) {
    std::map<int64_t, std::vector<int32_t>> outputs;
    std::map<int64_t, int> num_finished;
    for (Request request : requests) {
      request.on_token = [&](const TokenEvent& event) {
        if (event.token >= 0) outputs[event.request_id].push_back(event.token);
        if (event.finish != FinishReason::kNone) ++num_finished[event.request_id];
        return true;
      };
      EXPECT_TRUE(engine.submit(std::move(request)).ok());
    }
    while (engine.step()) {}
    EXPECT_EQ(num_finished.size(), requests.size());
    for (const auto& [id, count] : num_finished) EXPECT_EQ(count, 1);
    return outputs;
  }

  static Request make_request(uint64_t seed, int64_t prompt_len, int64_t max_tokens,
                              double temperature) {
    Request request;
    Rng rng(seed);
    for (int64_t i = 0; i < prompt_len; ++i)
      request.prompt.push_back(static_cast<int32_t>(rng.next_below(8000)));
    request.max_tokens = max_tokens;
    request.sampling.temperature = temperature;
    request.sampling.seed = seed;
    return request;
  }

  std::unique_ptr<Runtime> runtime_;
  std::optional<io::Checkpoint> checkpoint_;
  std::unique_ptr<models::LlamaModel> model_;
};

TEST_F(DemoModel, ARequestGivesTheSameTokensWhateverRunsBesideIt) {
  std::vector<Request> requests;
  for (uint64_t i = 0; i < 6; ++i) {
    requests.push_back(
        make_request(i, 5 + static_cast<int64_t>(i) * 9, 12, i % 2 == 0 ? 0.0 : 0.8));
  }
  const auto together = run(*make_engine(32, 4), requests);
  for (size_t i = 0; i < requests.size(); ++i) {
    const auto alone = run(*make_engine(512, 1), {requests[i]});
    EXPECT_EQ(together.at(static_cast<int64_t>(i)), alone.at(0)) << i;
  }
}

TEST_F(DemoModel, SequencesKeepTheirWindowsApart) {
  const io::ModelConfig config = model_->config();
  models::ModelFormat format = model_->format();
  format.kv = &kv::kv32_format();
  format.kv_options = {.rotate = true, .window_first = 3, .window_recent = 8};
  *model_ = models::LlamaModel::load(config, format, models::CheckpointSource(*checkpoint_),
                                     runtime_->context().caps)
                .value();
  std::vector<Request> requests;
  for (uint64_t i = 0; i < 5; ++i)
    requests.push_back(make_request(i, 5 + static_cast<int64_t>(i) * 9, 16, 0.0));
  const auto together = run(*make_engine(20, 2), requests);  // slots serve one after another
  for (size_t i = 0; i < requests.size(); ++i) {
    const auto alone = run(*make_engine(512, 1), {requests[i]});
    EXPECT_EQ(together.at(static_cast<int64_t>(i)), alone.at(0)) << i;
  }
}

TEST_F(DemoModel, PagesComeBackAndCancelEndsARequest) {
  auto engine = make_engine(64, 4);
  const int64_t all_pages = engine->num_free_pages();
  Request request = make_request(1, 20, 50, 0.0);
  int num_tokens = 0;
  FinishReason reason = FinishReason::kNone;
  request.on_token = [&](const TokenEvent& event) {
    reason = event.finish;
    return ++num_tokens < 5;
  };
  ASSERT_TRUE(engine->submit(std::move(request)).ok());
  while (engine->step()) {}
  EXPECT_EQ(reason, FinishReason::kCancelled);
  EXPECT_EQ(num_tokens, 6);  // five tokens and the event that ends it
  EXPECT_EQ(engine->num_free_pages(), all_pages);
}

TEST_F(DemoModel, StopTokensEndARequest) {
  const Request request = make_request(3, 10, 20, 0.0);
  const std::vector<int32_t> full = run(*make_engine(64, 1), {request}).at(0);
  Request stopping = request;
  stopping.stop_tokens = {full[4]};
  const size_t first = std::find(full.begin(), full.end(), full[4]) - full.begin();
  EXPECT_EQ(run(*make_engine(64, 1), {stopping}).at(0).size(), first + 1);
}

TEST_F(DemoModel, RefusesWhatCanNeverRun) {
  auto engine = make_engine(64, 1);
  EXPECT_FALSE(engine->submit({}).ok());
  EXPECT_FALSE(engine->submit(make_request(1, 128, 5, 0)).ok());
  Request outside = make_request(1, 4, 5, 0);
  outside.prompt[2] = 9000;
  const auto refused = engine->submit(outside);
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().message.find("9000"), std::string::npos);
  EngineOptions options;
  options.kv_memory_bytes = 100;
  EXPECT_FALSE(Engine::create(runtime_->context(), *model_, options).ok());
  options.kv_memory_bytes = 0;
  options.max_model_len = 4096;
  EXPECT_FALSE(Engine::create(runtime_->context(), *model_, options).ok());
}

TEST(Scheduler, KeepsItsLimitsAndServesEverySequence) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    Rng rng(seed);
    const SchedulerLimits limits{1 + static_cast<int64_t>(rng.next_below(5)),
                                 1 + static_cast<int64_t>(rng.next_below(40))};
    const int64_t num_pages = 4 + static_cast<int64_t>(rng.next_below(12));
    int64_t free_pages = num_pages;
    struct Job {
      SequenceState state;
      int64_t output_left;
    };
    std::vector<Job> jobs;
    int64_t num_left = 20;
    int num_steps = 0;
    while (num_left > 0 || !jobs.empty()) {
      if (num_left > 0 && rng.next_below(3) == 0) {
        const auto prompt = 1 + static_cast<int64_t>(rng.next_below(60));
        jobs.push_back({{0, prompt, 1 + static_cast<int64_t>(rng.next_below(4)), false},
                        1 + static_cast<int64_t>(rng.next_below(8))});
        --num_left;
      }
      if (jobs.empty()) continue;
      std::vector<SequenceState> states;
      for (const Job& job : jobs) states.push_back(job.state);
      const StepPlan plan = plan_step(states, free_pages, limits);
      ASSERT_FALSE(plan.chunks.empty());
      for (const int64_t i : plan.admit) {
        free_pages -= jobs[i].state.pages_needed;
        jobs[i].state.admitted = true;
      }
      ASSERT_GE(free_pages, 0);
      int64_t num_admitted = 0;
      for (const Job& job : jobs) num_admitted += job.state.admitted ? 1 : 0;
      ASSERT_LE(num_admitted, limits.max_seqs);
      int64_t num_tokens = 0;
      for (const StepPlan::Chunk& chunk : plan.chunks) {
        Job& job = jobs[chunk.seq_idx];
        ASSERT_TRUE(job.state.admitted);
        ASSERT_GE(chunk.num_tokens, 1);
        num_tokens += chunk.num_tokens;
        job.state.num_computed += chunk.num_tokens;
        ASSERT_LE(job.state.num_computed, job.state.num_known);
        if (job.state.num_computed == job.state.num_known) {
          --job.output_left;
          ++job.state.num_known;
        }
      }
      ASSERT_LE(num_tokens, limits.max_batch_tokens);
      std::erase_if(jobs, [&](const Job& job) {
        if (job.output_left > 0) return false;
        free_pages += job.state.pages_needed;
        return true;
      });
      ASSERT_LT(++num_steps, 5000) << "starved";
    }
    EXPECT_EQ(free_pages, num_pages);
  }
}

TEST(Sampler, GreedyTakesTheFirstMaximum) {
  std::array<float, 4> logits{1, 3, 3, 2};
  EXPECT_EQ(sample_token(logits, {}, {}), 1);
}

TEST(Sampler, FrequenciesFollowTheSoftmaxAndTheCuts) {
  const std::array<float, 4> logits{0.0F, 1.0F, 2.0F, -1.0F};
  const auto frequencies = [&](SamplingParams params) {
    std::array<double, 4> counts{};
    constexpr int kDraws = 20000;
    for (int i = 0; i < kDraws; ++i) {
      std::array<float, 4> copy = logits;
      params.seed = static_cast<uint64_t>(i);
      counts[sample_token(copy, params, {})] += 1.0 / kDraws;
    }
    return counts;
  };
  const double total = 1 + std::exp(1.0) + std::exp(2.0) + std::exp(-1.0);
  const auto plain = frequencies({.temperature = 1.0});
  EXPECT_NEAR(plain[2], std::exp(2.0) / total, 0.015);
  EXPECT_NEAR(plain[0], 1 / total, 0.015);
  const auto top2 = frequencies({.temperature = 1.0, .top_k = 2});
  EXPECT_NEAR(top2[2], 1 / (1 + std::exp(-1.0)), 0.015);
  EXPECT_EQ(top2[0] + top2[3], 0.0);
  const auto nucleus = frequencies({.temperature = 1.0, .top_p = 0.5});
  EXPECT_NEAR(nucleus[2], 1.0, 1e-9);
  const auto floor = frequencies({.temperature = 1.0, .min_p = 0.2});
  EXPECT_EQ(floor[0] + floor[3], 0.0);
  EXPECT_GT(floor[1], 0.2);
}

TEST(Sampler, RepetitionPenaltyLowersSeenTokens) {
  std::array<float, 3> logits{2.0F, 1.9F, -1.0F};
  const std::array<int32_t, 2> history{0, 0};
  EXPECT_EQ(sample_token(logits, {.repetition_penalty = 1.5}, history), 1);
}

}  // namespace
}  // namespace comet::engine
