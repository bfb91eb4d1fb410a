#include "comet/server/endpoints/generation.h"

#include <algorithm>
#include <ctime>
#include <mutex>

#include "comet/base/log.h"
#include "comet/engine/engine_loop.h"
#include "comet/server/access.h"
#include "comet/server/endpoints/engine_requests.h"
#include "comet/text/stream_decoder.h"

namespace comet::server {
namespace {

constexpr int kClientGone = 499;  // nginx's number; in log and metrics only

double seconds_between(engine::RequestTimes::Point from, engine::RequestTimes::Point to) {
  return std::chrono::duration<double>(to - from).count();
}

class Generation : public std::enable_shared_from_this<Generation> {
 public:
  Generation(std::shared_ptr<Call> call, GenerationPlan plan)
      : call_(std::move(call)), plan_(std::move(plan)) {}

  void start();

 private:
  struct Choice {
    ChoicePiece all;  // what was said so far; text and logprobs are kept for whole answers only
    std::optional<text::StreamDecoder> decoder;  // counts characters for text_offset
    int64_t num_characters = 0;
    int64_t num_output_tokens = 0;
    engine::RequestTimes::Point last_token;
    bool opened = false;
  };
  struct Arrival {
    size_t choice_idx;
    engine::TokenEvent event;
  };

  bool on_event(size_t choice_idx, engine::TokenEvent&& event);  // the engine's thread
  // The I/O thread:
  void drain_or_abort();
  void drain();
  void take(const Arrival& arrival, std::string& out);
  void say(Choice& choice, ChoicePiece piece, std::string& out);
  void end_choice(const engine::TokenEvent& event);
  void add_logprobs(Choice& choice, const engine::PositionLogprobs& position, bool has_value,
                    ChoicePiece& piece);
  void fail(const engine::TokenEvent& event);
  void finish(std::string out);
  void on_gone();
  [[nodiscard]] Usage usage() const { return {num_prompt_tokens_, num_output_tokens_}; }

  std::shared_ptr<Call> call_;
  GenerationPlan plan_;
  std::vector<int64_t> ids_;  // of the engine; set before anything reads them on the I/O thread
  std::atomic<bool> gone_{false};

  std::mutex mutex_;
  std::vector<Arrival> arrivals_;
  bool drain_posted_ = false;

  // I/O thread only.
  std::vector<Choice> choices_;
  size_t num_ended_ = 0;
  int64_t num_prompt_tokens_ = 0;
  int64_t num_output_tokens_ = 0;  // of all choices
  bool started_ = false;           // of a stream: the headers are out
  std::optional<ApiError> failure_;
};

void Generation::start() {
  Service& service = call_->service();
  std::vector<engine::Request> requests;
  if (const auto error = make_engine_requests(service, plan_, requests)) {
    return call_->respond_error(*error);
  }
  choices_.resize(requests.size());
  for (const PromptTokens& prompt : plan_.prompts) {
    num_prompt_tokens_ += static_cast<int64_t>(prompt.ids.size());
  }
  for (size_t i = 0; i < requests.size(); ++i) {
    choices_[i].all.index = static_cast<int64_t>(i);
    if (service.model()->tokenizer) {
      choices_[i].decoder.emplace(*service.model()->tokenizer, /*skip_special=*/true);
    }
    requests[i].on_event = [self = shared_from_this(), i](engine::TokenEvent&& event) {
      return self->on_event(i, std::move(event));
    };
  }
  {
    // Nothing is drained before the ids are known: drain() waits for this lock.
    const std::lock_guard lock(mutex_);
    drain_posted_ = true;
  }
  auto ids = service.loop().submit_all(std::move(requests));
  if (!ids) {
    ApiError error = api_error_of(ids.error(), plan_.prompt_field);
    if (service.draining()) error = unavailable("the server is shutting down");
    return call_->respond_error(error);
  }
  ids_ = *std::move(ids);
  call_->exchange().post([self = shared_from_this()] {
    self->call_->exchange().on_gone([self] { self->on_gone(); });
    self->drain_or_abort();
  });
}

bool Generation::on_event(size_t choice_idx, engine::TokenEvent&& event) {
  bool post = false;
  {
    const std::lock_guard lock(mutex_);
    arrivals_.push_back({choice_idx, std::move(event)});
    post = !drain_posted_;
    drain_posted_ = true;
  }
  if (post) call_->exchange().post([self = shared_from_this()] { self->drain_or_abort(); });
  return !gone_;
}

void Generation::on_gone() {
  gone_ = true;
  for (const int64_t id : ids_) call_->service().loop().cancel(id);
}

// Out of memory, mostly: this request fails alone.
void Generation::drain_or_abort() {
  try {
    drain();
  } catch (const std::exception& error) {
    log_warning("internal error in request {}: {}", call_->request_id(), error.what());
    on_gone();
    call_->exchange().abort();
  }
}

void Generation::drain() {
  std::vector<Arrival> arrivals;
  {
    const std::lock_guard lock(mutex_);
    arrivals.swap(arrivals_);
    drain_posted_ = false;
  }
  std::string out;
  if (plan_.params.stream && !started_ && !gone_) {
    started_ = true;
    call_->exchange().start_stream(call_->stream_headers());
  }
  for (Choice& choice : choices_) {
    if (choice.opened) continue;
    choice.opened = true;
    if (plan_.params.stream) out += plan_.format->open_choice(choice.all.index, usage());
    if (!plan_.echo) continue;
    const size_t prompt_idx =
        static_cast<size_t>(choice.all.index) / static_cast<size_t>(plan_.params.n);
    // With log-probabilities the prompt's text goes out together with them.
    ChoicePiece piece;
    piece.text = plan_.prompts[prompt_idx].echo_text;
    if (plan_.params.num_logprobs) {
      choice.all.text = std::move(piece.text);
    } else {
      choice.num_characters = num_characters(piece.text);
      say(choice, std::move(piece), out);
    }
  }
  for (const Arrival& arrival : arrivals) take(arrival, out);
  if (num_ended_ == choices_.size()) return finish(std::move(out));
  if (plan_.params.stream && !gone_) call_->exchange().write(std::move(out));
}

void Generation::say(Choice& choice, ChoicePiece piece, std::string& out) {
  piece.index = choice.all.index;
  if (plan_.params.stream) {
    out += plan_.format->chunk(piece, usage());
    return;
  }
  choice.all.text += piece.text;
  std::move(piece.logprobs.begin(), piece.logprobs.end(), std::back_inserter(choice.all.logprobs));
  if (!piece.finish_reason.empty()) choice.all.finish_reason = piece.finish_reason;
}

void Generation::add_logprobs(Choice& choice, const engine::PositionLogprobs& position,
                              bool has_value, ChoicePiece& piece) {
  const auto& tokenizer = call_->service().model()->tokenizer;
  const auto bytes = [&](int32_t token) {
    return tokenizer ? std::string(tokenizer->token_bytes(token)) : std::to_string(token);
  };
  TokenLogprobs token;
  token.bytes = bytes(position.chosen.token);
  token.text_offset = choice.num_characters;
  if (choice.decoder)
    choice.num_characters += num_characters(choice.decoder->push(position.chosen.token));
  if (has_value) {
    token.logprob = position.chosen.logprob;
    for (const engine::TokenLogprob& other : position.top) {
      token.top.push_back({bytes(other.token), other.logprob});
    }
  }
  piece.logprobs.push_back(std::move(token));
}

void Generation::take(const Arrival& arrival, std::string& out) {
  Choice& choice = choices_[arrival.choice_idx];
  const engine::TokenEvent& event = arrival.event;
  num_output_tokens_ += event.num_output_tokens - choice.num_output_tokens;
  choice.num_output_tokens = event.num_output_tokens;
  ChoicePiece piece;
  if (!event.prompt_logprobs.empty()) {
    if (plan_.params.stream) piece.text = std::exchange(choice.all.text, {});
    for (size_t i = 0; i < event.prompt_logprobs.size(); ++i) {
      add_logprobs(choice, event.prompt_logprobs[i], i > 0, piece);
    }
  }
  piece.text += event.text;
  if (event.logprobs) add_logprobs(choice, *event.logprobs, true, piece);
  if (event.token >= 0) {
    if (choice.last_token != engine::RequestTimes::Point{}) {
      call_->service().metrics().observe_token_gap(
          seconds_between(choice.last_token, event.times.now));
    }
    choice.last_token = event.times.now;
  }
  const bool ended = event.finish != engine::FinishReason::kNone;
  if (ended) end_choice(event);
  if (event.finish == engine::FinishReason::kStop) piece.finish_reason = "stop";
  if (event.finish == engine::FinishReason::kLength) piece.finish_reason = "length";
  const bool silent = piece.text.empty() && piece.logprobs.empty() && piece.finish_reason.empty();
  if (!silent) say(choice, std::move(piece), out);
}

void Generation::end_choice(const engine::TokenEvent& event) {
  ++num_ended_;
  SequenceRecord record;
  record.num_prompt_tokens = event.num_prompt_tokens;
  record.num_output_tokens = event.num_output_tokens;
  record.total_s = seconds_between(event.times.submitted, event.times.now);
  const auto since_submitted = [&](engine::RequestTimes::Point point) {
    return point == engine::RequestTimes::Point{} ? 0
                                                  : seconds_between(event.times.submitted, point);
  };
  record.queue_s = since_submitted(event.times.admitted);
  record.first_token_s = since_submitted(event.times.first_token);
  switch (event.finish) {
    case engine::FinishReason::kStop:
      record.finish_reason = "stop";
      break;
    case engine::FinishReason::kLength:
      record.finish_reason = "length";
      break;
    case engine::FinishReason::kError:
      record.finish_reason = "error";
      break;
    default:
      record.finish_reason = "abort";
      break;
  }
  call_->service().metrics().observe_sequence(record);
  if (event.finish == engine::FinishReason::kError ||
      (event.finish == engine::FinishReason::kCancelled && !gone_)) {
    fail(event);
  }
}

// One sequence failed: the request does, and its other sequences are no longer wanted.
void Generation::fail(const engine::TokenEvent& event) {
  if (failure_) return;
  if (event.finish == engine::FinishReason::kError) {
    failure_ = ApiError{500, event.error, "server_error", "", "internal_error"};
    log_warning("request {}: {}", call_->request_id(), log_text(event.error));
  } else {
    failure_ = unavailable("the server is shutting down");
  }
  for (const int64_t id : ids_) call_->service().loop().cancel(id);
}

void Generation::finish(std::string out) {
  if (gone_) return call_->finish(kClientGone, usage());
  if (!plan_.params.stream) {
    call_->usage = usage();
    if (failure_) return call_->respond_error(*failure_);
    std::vector<ChoicePiece> pieces;
    for (Choice& choice : choices_) pieces.push_back(std::move(choice.all));
    return call_->respond_json(plan_.format->whole(pieces, usage()));
  }
  if (failure_) {
    out += sse_event(error_json(*failure_));
  } else if (plan_.params.include_usage) {
    out += plan_.format->usage_chunk(usage());
  }
  call_->exchange().write(out + kSseDone);
  call_->exchange().finish_stream();
  call_->finish(failure_ ? failure_->status : 200, usage());
}

}  // namespace

void start_generation(const std::shared_ptr<Call>& call, GenerationPlan plan) {
  std::make_shared<Generation>(call, std::move(plan))->start();
}

std::optional<ApiError> check_model_name(const ServedModel& model, const std::string& name) {
  if (name.empty() || name == model.name ||
      std::find(model.aliases.begin(), model.aliases.end(), name) != model.aliases.end()) {
    return std::nullopt;
  }
  return ApiError{404,
                  fmt::format("the model '{}' does not exist; this server has '{}'", log_text(name),
                              model.name),
                  "invalid_request_error", "model", "model_not_found"};
}

int64_t unix_time() { return static_cast<int64_t>(std::time(nullptr)); }

}  // namespace comet::server
