#include "apps/comet/chat_session.h"

#include <algorithm>

namespace comet::cli {
namespace {

/// The room that an answer shall at least have: what was asked for, but no more than a quarter of
/// the context.
int64_t reserved_tokens(int64_t max_tokens, int64_t max_model_len) {
  const int64_t quarter = std::max<int64_t>(1, max_model_len / 4);
  return max_tokens == 0 ? quarter : std::min(max_tokens, quarter);
}

}  // namespace

std::vector<ChatMessage> ChatSession::messages() const {
  std::vector<ChatMessage> all;
  if (!settings_.system.empty()) all.push_back({"system", settings_.system});
  all.insert(all.end(), history_.begin(), history_.end());
  return all;
}

std::optional<std::string> ChatSession::undo() {
  if (history_.size() < 2) return std::nullopt;
  history_.pop_back();
  std::string question = std::move(history_.back().content);
  history_.pop_back();
  return question;
}

/// The prompt's tokens; the oldest turns go until it leaves room for an answer.
Result<std::vector<int32_t>> ChatSession::fitted_prompt(ChatAnswer& answer) {
  const int64_t max_len = engine_.max_model_len();
  const int64_t room = max_len - reserved_tokens(settings_.max_tokens, max_len);
  while (true) {
    auto tokens = prompt_.tokens(messages());
    if (!tokens) return tokens.error();
    const auto num_tokens = static_cast<int64_t>(tokens->size());
    if (num_tokens <= room) {
      if (tokens->empty()) {
        return make_error(ErrorCode::kInvalidArgument, "the chat template gives an empty prompt");
      }
      return tokens;
    }
    if (history_.size() < 3) {
      return make_error(ErrorCode::kInvalidArgument,
                        "the message has {} tokens with its template, but the context of {} leaves "
                        "{} beside an answer: shorten it or the system message, or raise "
                        "--max-model-len",
                        num_tokens, max_len, room);
    }
    history_.erase(history_.begin(), history_.begin() + 2);
    answer.num_dropped_messages += 2;
  }
}

Status ChatSession::run(std::vector<int32_t> prompt, const OnText& on_text,
                        const std::function<bool()>& is_interrupted, ChatAnswer& answer) {
  engine::Request request;
  answer.num_prompt_tokens = static_cast<int64_t>(prompt.size());
  request.max_tokens = engine_.max_model_len() - answer.num_prompt_tokens;
  if (settings_.max_tokens > 0) {
    request.max_tokens = std::min(request.max_tokens, settings_.max_tokens);
  }
  request.prompt = std::move(prompt);
  request.stop_tokens = prompt_.stop_tokens();
  request.stop_strings = settings_.stop;
  request.stop_strings.insert(request.stop_strings.end(), prompt_.stop_strings().begin(),
                              prompt_.stop_strings().end());
  request.sampling = settings_.sampling;
  engine::RequestTimes times;
  std::string error;
  request.on_event = [&](const engine::TokenEvent& event) {
    answer.text += event.text;
    answer.num_tokens = event.num_output_tokens;
    answer.finish = event.finish;
    times = event.times;
    error = event.error;
    if (!event.text.empty()) on_text(event.text);
    return true;
  };
  const auto id = engine_.submit(std::move(request));
  if (!id) return id.error();
  while (engine_.step()) {
    if (is_interrupted()) engine_.cancel(*id);
  }
  if (answer.finish == engine::FinishReason::kError) {
    return make_error(ErrorCode::kCorrupt, "the model failed: {}", error);
  }
  using Seconds = std::chrono::duration<double>;
  if (answer.num_tokens > 0) {
    answer.ttft_ms = Seconds(times.first_token - times.submitted).count() * 1e3;
  }
  const double decode_s = Seconds(times.now - times.first_token).count();
  if (answer.num_tokens > 1 && decode_s > 0) {
    answer.decode_tokens_per_s = static_cast<double>(answer.num_tokens - 1) / decode_s;
  }
  return {};
}

Result<ChatAnswer> ChatSession::ask(const std::string& question, const OnText& on_text,
                                    const std::function<bool()>& is_interrupted) {
  const std::vector<ChatMessage> before = history_;
  history_.push_back({"user", question});
  ChatAnswer answer;
  auto prompt = fitted_prompt(answer);
  const Status ran =
      prompt ? run(*std::move(prompt), on_text, is_interrupted, answer) : Status(prompt.error());
  if (!ran) {
    history_ = before;
    return ran.error();
  }
  history_.push_back({"assistant", answer.text});
  ++settings_.sampling.seed;  // so that /retry draws anew
  return answer;
}

}  // namespace comet::cli
