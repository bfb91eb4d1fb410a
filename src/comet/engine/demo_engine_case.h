// For the tests of this room: engines over the demo model, requests from a seed, and what came out.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "comet/base/rng.h"
#include "comet/engine/engine.h"
#include "comet/io/file.h"
#include "comet/models/load.h"

namespace comet::engine {

/// All that one request was given.
struct Answer {
  std::vector<int32_t> tokens;
  std::string text;
  std::vector<PositionLogprobs> logprobs, prompt_logprobs;
  FinishReason finish = FinishReason::kNone;
  std::string stop_string, error;
  int num_finishes = 0;

  void add(const TokenEvent& event) {
    EXPECT_EQ(num_finishes, 0) << "an event after the last";
    if (event.token >= 0) tokens.push_back(event.token);
    EXPECT_EQ(event.num_output_tokens, static_cast<int64_t>(tokens.size()));
    text += event.text;
    if (event.logprobs) logprobs.push_back(*event.logprobs);
    if (!event.prompt_logprobs.empty()) prompt_logprobs = event.prompt_logprobs;
    if (event.finish == FinishReason::kNone) return;
    ++num_finishes;
    finish = event.finish;
    stop_string = event.stop_string;
    error = event.error;
  }
};

inline bool operator==(const TokenLogprob& a, const TokenLogprob& b) {
  return a.token == b.token && a.logprob == b.logprob;
}
inline bool operator==(const PositionLogprobs& a, const PositionLogprobs& b) {
  return a.chosen == b.chosen && a.top == b.top;
}

class DemoEngineTest : public testing::Test {
 protected:
  void SetUp() override {
    runtime_ = Runtime::cpu(detect_cpu_isa(), 2);
    checkpoint_.emplace(io::Checkpoint::open(COMET_SOURCE_DIR "/models/demo").value());
    model_ = models::load_model(runtime_->context(), *checkpoint_, "").value();
    const std::string file = COMET_SOURCE_DIR "/models/demo/tokenizer.json";
    tokenizer_.emplace(
        text::Tokenizer::from_json(io::read_file(file, 64 << 20).value(), file).value());
  }

  /// num_pages 0: what max_seqs of full length need.
  std::unique_ptr<Engine> make_engine(int64_t max_batch_tokens, int64_t max_seqs,
                                      int64_t num_pages = 0) {
    EngineOptions options;
    options.limits = {.max_seqs = max_seqs, .max_batch_tokens = max_batch_tokens};
    options.max_model_len = 128;
    const int64_t page_bytes =
        model_->format().kv->page_bytes(model_->kv_shape()) * model_->config().num_layers;
    options.kv_memory_bytes =
        num_pages == 0 ? int64_t{64} << 20
                       : num_pages * page_bytes + max_seqs * model_->window_bytes_per_slot();
    options.tokenizer = &*tokenizer_;
    return Engine::create(runtime_->context(), *model_, options).value();
  }

  /// Answers to requests that all arrive at once, in their order.
  static std::vector<Answer> run(Engine& engine, const std::vector<Request>& requests) {
    std::vector<Answer> answers(requests.size());
    for (size_t i = 0; i < requests.size(); ++i) {
      Request request = requests[i];
      request.on_event = [&answers, i](const TokenEvent& event) {
        answers[i].add(event);
        return true;
      };
      EXPECT_TRUE(engine.submit(std::move(request)).ok());
    }
    const int64_t num_pages = engine.stats().num_pages;
    while (engine.step()) {}
    EXPECT_EQ(engine.num_free_pages(), num_pages);
    for (const Answer& answer : answers) EXPECT_EQ(answer.num_finishes, 1);
    return answers;
  }

  static Request make_request(uint64_t seed, int64_t prompt_len, int64_t max_tokens,
                              double temperature) {
    Request request;
    Rng rng(seed);
    for (int64_t i = 0; i < prompt_len; ++i) {
      request.prompt.push_back(static_cast<int32_t>(rng.next_below(8000)));
    }
    request.max_tokens = max_tokens;
    request.sampling.temperature = temperature;
    request.sampling.seed = seed;
    return request;
  }

  Request text_request(const std::string& prompt, int64_t max_tokens) const {
    Request request;
    request.prompt = tokenizer_->encode(prompt);
    request.max_tokens = max_tokens;
    return request;
  }

  std::unique_ptr<Runtime> runtime_;
  std::optional<io::Checkpoint> checkpoint_;
  std::unique_ptr<models::LlamaModel> model_;
  std::optional<text::Tokenizer> tokenizer_;
};

}  // namespace comet::engine
