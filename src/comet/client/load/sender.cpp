#include "comet/client/load/sender.h"

namespace comet::client {
namespace {

std::string body_of(const Target& target, const Ask& ask) {
  Json body = {{"model", target.model},
               {"max_tokens", ask.output_tokens},
               {"temperature", 0},
               {"stream", true},
               {"stream_options", {{"include_usage", true}}}};
  if (ask.ignore_eos) body["ignore_eos"] = true;
  if (target.chat) {
    body["messages"] = Json::array({{{"role", "user"}, {"content", ask.prompt}}});
  } else {
    body["prompt"] = ask.prompt;
  }
  return body.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

void Sender::send(RequestRecord& record, const Ask& ask) {
  CallRequest request;
  request.method = "POST";
  request.path = target_.chat ? "/v1/chat/completions" : "/v1/completions";
  request.body = body_of(target_, ask);
  request.api_key = target_.api_key;
  request.stream = true;
  request.limits = target_.limits;
  auto events = std::make_shared<CompletionEvents>(record, loop_.now_s());
  CallHandlers handlers;
  handlers.on_event = [events, seen = ask.on_event](std::string_view data, double at_s) {
    return events->on_event(data, at_s) && (!seen || seen());
  };
  handlers.on_done = [this, events, &record, input_tokens = ask.input_tokens,
                      done = ask.on_done](const CallOutcome& outcome) {
    if (record.error_kind.empty() && !outcome.error_kind.empty()) {
      record.error_kind = outcome.error_kind;
      record.error = explain(outcome, target_, served_);
    }
    events->finish(input_tokens);
    done();
  };
  loop_.call(std::move(request), std::move(handlers));
}

}  // namespace comet::client
