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
      request.on_event = [&](const TokenEvent& event) {
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
  request.on_event = [&](const TokenEvent& event) {
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

}  // namespace
}  // namespace comet::engine
