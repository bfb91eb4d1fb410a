#include "comet/engine/engine.h"

#include <array>
#include <limits>

#include "comet/engine/demo_engine_case.h"
#include "comet/engine/sampled.h"

namespace comet::engine {
namespace {

class EngineTest : public DemoEngineTest {};

TEST_F(EngineTest, PagesAreTakenAsSequencesGrow) {
  auto engine = make_engine(64, 4);
  const int64_t all_pages = engine->num_free_pages();
  ASSERT_TRUE(engine->submit(make_request(1, 20, 60, 0)).ok());
  for (int64_t num_cached = 20; engine->step(); ++num_cached) {
    EXPECT_EQ(all_pages - engine->num_free_pages(), pages_for(num_cached));
  }
  EXPECT_EQ(engine->num_free_pages(), all_pages);
}

TEST_F(EngineTest, CancelTakesEffectWithinAStepWaitingOrRunning) {
  auto engine = make_engine(64, 1);
  const int64_t all_pages = engine->num_free_pages();
  std::array<Answer, 3> answers;
  std::array<int64_t, 3> ids{};
  for (size_t i = 0; i < 3; ++i) {
    Request request = make_request(i, 20, 50, 0);
    request.on_event = [&answers, i](const TokenEvent& event) {
      answers[i].add(event);
      return i != 2 || event.num_output_tokens < 3;  // the last request ends itself
    };
    ids[i] = engine->submit(std::move(request)).value();
  }
  for (int i = 0; i < 3; ++i) engine->step();
  engine->cancel(ids[0]);
  engine->cancel(ids[1]);
  engine->cancel(12345);
  engine->step();
  EXPECT_EQ(answers[0].finish, FinishReason::kCancelled);
  EXPECT_EQ(answers[0].tokens.size(), 3U);
  EXPECT_EQ(answers[1].finish, FinishReason::kCancelled);
  EXPECT_EQ(answers[1].tokens.size(), 0U);
  EXPECT_EQ(answers[2].tokens.size(), 1U);  // its place was free at once
  while (engine->step()) {}
  EXPECT_EQ(answers[2].finish, FinishReason::kCancelled);
  EXPECT_EQ(answers[2].tokens.size(), 3U);
  EXPECT_EQ(engine->num_free_pages(), all_pages);
  EXPECT_EQ(engine->stats().num_cancelled, 3);
}

TEST_F(EngineTest, StopTokensEosAndMinTokens) {
  const Request request = make_request(3, 10, 20, 0.0);
  const std::vector<int32_t> full = run(*make_engine(64, 1), {request})[0].tokens;
  ASSERT_EQ(full.size(), 20U);
  Request stopping = request;
  stopping.stop_tokens = {full[4]};
  const size_t first = std::find(full.begin(), full.end(), full[4]) - full.begin();
  const Answer stopped = run(*make_engine(64, 1), {stopping})[0];
  EXPECT_EQ(stopped.tokens.size(), first + 1);
  EXPECT_EQ(stopped.finish, FinishReason::kStop);
  const std::vector<int32_t> shown(stopped.tokens.begin(), stopped.tokens.end() - 1);
  EXPECT_EQ(stopped.text, tokenizer_->decode(shown, true));

  stopping.min_tokens = static_cast<int64_t>(first) + 4;
  const Answer longer = run(*make_engine(64, 1), {stopping})[0];
  EXPECT_GE(longer.tokens.size(), first + 4);
  EXPECT_NE(longer.tokens[first], full[4]) << "a stop token was sampled before min_tokens";

  EngineOptions options;
  options.max_model_len = 128;
  options.eos_tokens = {full[4]};
  auto engine = Engine::create(runtime_->context(), *model_, options).value();
  EXPECT_EQ(run(*engine, {request})[0].tokens.size(), first + 1);
  Request ignoring = request;
  ignoring.ignore_eos = true;
  EXPECT_EQ(run(*engine, {ignoring})[0].tokens, full);
}

TEST_F(EngineTest, StopStringsAreFoundOverTokenBordersAndNeverShown) {
  const Request request = text_request("The history of the world is", 40);
  const Answer full = run(*make_engine(64, 1), {request})[0];
  EXPECT_EQ(full.text, tokenizer_->decode(full.tokens, true));
  ASSERT_GT(full.text.size(), 30U);
  for (size_t at = 5; at + 9 < full.text.size(); at += 6) {
    const std::string stop = full.text.substr(at, 7);  // tokens end where they like
    if (stop[0] < 0 || stop[6] < 0) continue;          // not within a character
    Request stopping = request;
    stopping.stop_strings = {"never there", stop};
    const Answer answer = run(*make_engine(64, 1), {stopping})[0];
    EXPECT_EQ(answer.text, full.text.substr(0, full.text.find(stop)));
    EXPECT_EQ(answer.finish, FinishReason::kStop);
    EXPECT_EQ(answer.stop_string, stop);
  }
  Request unfinished = request;
  unfinished.stop_strings = {full.text.substr(full.text.size() - 3) + "and never more"};
  const Answer answer = run(*make_engine(64, 1), {unfinished})[0];
  EXPECT_EQ(answer.text, full.text) << "what was held back comes at the end";
  EXPECT_EQ(answer.finish, FinishReason::kLength);
}

TEST_F(EngineTest, LogprobsAreOfTheRawLogits) {
  Request request = make_request(5, 30, 6, 0.9);
  request.num_logprobs = 4;
  request.prompt_logprobs = true;
  const Answer plain = run(*make_engine(512, 1), {request})[0];
  ASSERT_EQ(plain.prompt_logprobs.size(), 30U);
  EXPECT_TRUE(plain.prompt_logprobs[0].top.empty());
  ASSERT_EQ(plain.logprobs.size(), 6U);
  // The whole text as a prompt: its logprobs are those that were given on the way.
  Request whole = request;
  whole.prompt.insert(whole.prompt.end(), plain.tokens.begin(), plain.tokens.end());
  whole.max_tokens = 0;
  const Answer scored = run(*make_engine(17, 1), {whole})[0];
  EXPECT_TRUE(scored.tokens.empty());
  EXPECT_EQ(scored.finish, FinishReason::kLength);
  ASSERT_EQ(scored.prompt_logprobs.size(), 36U);
  for (size_t i = 0; i < 36; ++i) {
    const PositionLogprobs& a = scored.prompt_logprobs[i];
    const PositionLogprobs& b = i < 30 ? plain.prompt_logprobs[i] : plain.logprobs[i - 30];
    EXPECT_EQ(a.chosen.token, whole.prompt[i]);
    EXPECT_EQ(a.chosen.token, b.chosen.token);
    EXPECT_NEAR(a.chosen.logprob, b.chosen.logprob, 2e-3);
    if (i > 0) {
      ASSERT_EQ(a.top.size(), 4U);
      EXPECT_GE(a.top[0].logprob, a.chosen.logprob);
    }
  }
  // A bias changes what is drawn, not what is told.
  Request biased = request;
  biased.sampling.logit_bias = {{77, 100.0F}};
  const Answer forced = run(*make_engine(512, 1), {biased})[0];
  EXPECT_EQ(forced.tokens[0], 77);
  EXPECT_EQ(forced.logprobs[0].chosen.token, 77);
  EXPECT_EQ(forced.logprobs[0].top, plain.logprobs[0].top);
}

TEST_F(EngineTest, AStepThatFailsEndsOnlyWhatRan) {
  auto engine = make_engine(64, 1);
  std::array<Answer, 2> answers;
  for (size_t i = 0; i < 2; ++i) {
    Request request = make_request(i, 10, 5, 0);
    request.on_event = [&answers, i](const TokenEvent& event) {
      answers[i].add(event);
      return true;
    };
    ASSERT_TRUE(engine->submit(std::move(request)).ok());
  }
  engine->step();
  engine->fail_running("broken");
  EXPECT_EQ(answers[0].finish, FinishReason::kError);
  EXPECT_EQ(answers[0].error, "broken");
  while (engine->step()) {}
  EXPECT_EQ(answers[1].finish, FinishReason::kLength);
  EXPECT_EQ(engine->stats().num_failed, 1);
  EXPECT_EQ(engine->num_free_pages(), engine->stats().num_pages);
}

TEST_F(EngineTest, LogitsThatAreNotFiniteFail) {
  Sequence seq;
  seq.request = make_request(1, 3, 5, 0);
  seq.tokens = seq.request.prompt;
  seq.state.num_known = 3;
  SamplerScratch scratch;
  std::vector<float> logits(100, 1.0F);
  EXPECT_FALSE(sample_row(seq, 2, logits, scratch).failed);
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    logits[57] = bad;
    EXPECT_TRUE(sample_row(seq, 2, logits, scratch).failed);
  }
}

TEST_F(EngineTest, RefusesWhatCanNeverRun) {
  auto engine = make_engine(64, 1);
  const auto refusal = [&](const std::function<void(Request&)>& change) {
    Request request = make_request(1, 4, 5, 0);
    change(request);
    const auto result = engine->submit(std::move(request));
    return result.ok() ? std::string("accepted") : result.error().message;
  };
  EXPECT_EQ(refusal([](Request&) {}), "accepted");
  EXPECT_NE(refusal([](Request& r) { r.prompt[2] = 9000; }).find("9000"), std::string::npos);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<std::pair<std::string, std::function<void(Request&)>>> bad{
      {"the prompt", [](Request& r) { r.prompt.clear(); }},
      {"the prompt", [](Request& r) { r.prompt.assign(128, 1); }},
      {"prompt token", [](Request& r) { r.prompt[0] = -1; }},
      {"max_tokens", [](Request& r) { r.max_tokens = -1; }},
      {"min_tokens", [](Request& r) { r.min_tokens = 6; }},
      {"logprobs", [](Request& r) { r.num_logprobs = 21; }},
      {"stop", [](Request& r) { r.stop_strings = {""}; }},
      {"temperature", [=](Request& r) { r.sampling.temperature = nan; }},
      {"temperature", [](Request& r) { r.sampling.temperature = -0.1; }},
      {"top_p", [](Request& r) { r.sampling.top_p = 1.1; }},
      {"min_p", [](Request& r) { r.sampling.min_p = -0.1; }},
      {"top_k", [](Request& r) { r.sampling.top_k = -1; }},
      {"repetition_penalty", [](Request& r) { r.sampling.repetition_penalty = 0; }},
      {"presence_penalty", [=](Request& r) { r.sampling.presence_penalty = nan; }},
      {"logit_bias", [](Request& r) { r.sampling.logit_bias = {{8192, 1.0F}}; }}};
  for (const auto& [field, change] : bad) {
    const std::string message = refusal(change);
    EXPECT_TRUE(message.starts_with(field)) << field << ": " << message;
  }
  EngineOptions options;
  options.kv_memory_bytes = 100;
  EXPECT_FALSE(Engine::create(runtime_->context(), *model_, options).ok());
  options.kv_memory_bytes = 0;
  options.max_model_len = 4096;
  EXPECT_FALSE(Engine::create(runtime_->context(), *model_, options).ok());
}

}  // namespace
}  // namespace comet::engine
