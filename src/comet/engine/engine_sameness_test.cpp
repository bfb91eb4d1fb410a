// The tokens and logprobs of a request, to the bit, whatever runs beside it, however its prompt is
// cut and whenever it is preempted.
#include "comet/engine/demo_engine_case.h"

namespace comet::engine {
namespace {

class Sameness : public DemoEngineTest {
 protected:
  static std::vector<Request> mixed_requests(int64_t count, int64_t vocab_size) {
    std::vector<Request> requests;
    for (int64_t i = 0; i < count; ++i) {
      Request request =
          make_request(static_cast<uint64_t>(i), 1 + i * 37 % 75, 16 + i % 3 * 14, 0.8);
      for (int32_t& token : request.prompt) token %= static_cast<int32_t>(vocab_size);
      SamplingParams& params = request.sampling;
      if (i % 4 == 0) params.temperature = 0;
      if (i % 4 == 1) params.top_p = 0.9;
      if (i % 4 == 2) params.top_k = 20;
      if (i % 5 == 3) params.repetition_penalty = 1.2;
      if (i % 5 == 4) params.presence_penalty = 0.5;
      request.num_logprobs = 3;
      request.prompt_logprobs = i % 3 == 0;
      requests.push_back(std::move(request));
    }
    return requests;
  }

  static void expect_same(const Answer& given, const Answer& expected) {
    EXPECT_EQ(given.tokens, expected.tokens);
    EXPECT_EQ(given.text, expected.text);
    EXPECT_TRUE(given.logprobs == expected.logprobs) << "logprobs differ";
    EXPECT_TRUE(given.prompt_logprobs == expected.prompt_logprobs) << "prompt logprobs differ";
    EXPECT_EQ(given.finish, expected.finish);
  }

  void check() {
    const std::vector<Request> requests = mixed_requests(11, model_->config().vocab_size);
    std::vector<Answer> alone;
    for (const Request& request : requests) {
      alone.push_back(run(*make_engine(512, 1), {request})[0]);
    }
    struct Setting {
      int64_t max_batch_tokens, max_seqs, num_pages;
    };
    for (const Setting& s : {Setting{19, 4, 0}, Setting{64, 11, 9}}) {
      auto engine = make_engine(s.max_batch_tokens, s.max_seqs, s.num_pages);
      const std::vector<Answer> together = run(*engine, requests);
      if (s.num_pages > 0) {
        EXPECT_GT(engine->stats().num_preemptions, 0);
      }
      for (size_t i = 0; i < requests.size(); ++i) {
        SCOPED_TRACE(fmt::format("request {}, {} tokens a step, {} pages", i, s.max_batch_tokens,
                                 s.num_pages));
        expect_same(together[i], alone[i]);
      }
    }
  }

  void reload(const kv::KvFormat* kv, const kv::KvOptions& kv_options) {
    const io::ModelConfig config = model_->config();
    models::ModelFormat format = model_->format();
    format.kv = kv;
    format.kv_options = kv_options;
    *model_ = models::LlamaModel::load(config, format, models::CheckpointSource(*checkpoint_),
                                       runtime_->context().caps)
                  .value();
  }
};

TEST_F(Sameness, OfTheDemoModel) { check(); }

TEST_F(Sameness, WithAFourBitCache) {
  reload(*kv::find_kv_format("kv4"), {});
  check();
}

TEST_F(Sameness, WithAWindowOfTheCache) {
  reload(*kv::find_kv_format("kv4"), {.rotate = true, .window_first = 3, .window_recent = 8});
  check();
}

}  // namespace
}  // namespace comet::engine
