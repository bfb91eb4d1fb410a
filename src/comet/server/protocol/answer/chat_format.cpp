// chat.completion and chat.completion.chunk objects: /v1/chat/completions.
#include "comet/server/protocol/answer/answer_json.h"

namespace comet::server {
namespace {

OrderedJson alternative_json(const std::string& bytes, double logprob) {
  OrderedJson numbers = OrderedJson::array();
  for (const char byte : bytes) numbers.push_back(static_cast<uint8_t>(byte));
  return {{"token", lossy_text(bytes)},
          {"logprob", finite_logprob(logprob)},
          {"bytes", std::move(numbers)}};
}

OrderedJson logprobs_json(const std::vector<TokenLogprobs>& tokens) {
  OrderedJson content = OrderedJson::array();
  for (const TokenLogprobs& token : tokens) {
    OrderedJson entry = alternative_json(token.bytes, token.logprob.value_or(0));
    OrderedJson top = OrderedJson::array();
    for (const Alternative& other : token.top) {
      top.push_back(alternative_json(other.bytes, other.logprob));
    }
    entry["top_logprobs"] = std::move(top);
    content.push_back(std::move(entry));
  }
  return {{"content", std::move(content)}, {"refusal", nullptr}};
}

OrderedJson reason_json(const std::string& reason) {
  return reason.empty() ? OrderedJson() : OrderedJson(reason);
}

class ChatFormat final : public AnswerFormat {
 public:
  explicit ChatFormat(AnswerHead head) : head_(std::move(head)) {}

  [[nodiscard]] std::string open_choice(int64_t index, const Usage& usage) const override {
    return event(index, {{"role", "assistant"}, {"content", ""}}, {}, "", usage);
  }

  [[nodiscard]] std::string chunk(const ChoicePiece& piece, const Usage& usage) const override {
    std::string events;
    if (!piece.text.empty() || !piece.logprobs.empty()) {
      OrderedJson delta = {{"content", piece.text}};
      events = event(piece.index, std::move(delta), piece.logprobs, "", usage);
    }
    if (!piece.finish_reason.empty()) {
      events += event(piece.index, OrderedJson::object(), {}, piece.finish_reason, usage);
    }
    return events;
  }

  [[nodiscard]] std::string usage_chunk(const Usage& usage) const override {
    OrderedJson json = answer_json(head_, kChunk, OrderedJson::array());
    json["usage"] = usage_json(usage);
    return sse_event(json_text(json));
  }

  [[nodiscard]] std::string whole(const std::vector<ChoicePiece>& choices,
                                  const Usage& usage) const override {
    OrderedJson list = OrderedJson::array();
    for (const ChoicePiece& choice : choices) {
      const OrderedJson message = {
          {"role", "assistant"}, {"content", choice.text}, {"refusal", nullptr}};
      list.push_back(
          {{"index", choice.index},
           {"message", message},
           {"logprobs", head_.with_logprobs ? logprobs_json(choice.logprobs) : OrderedJson()},
           {"finish_reason", reason_json(choice.finish_reason)}});
    }
    OrderedJson json = answer_json(head_, "chat.completion", std::move(list));
    json["usage"] = usage_json(usage);
    return json_text(json);
  }

 private:
  static constexpr const char* kChunk = "chat.completion.chunk";

  [[nodiscard]] std::string event(int64_t index, OrderedJson delta,
                                  const std::vector<TokenLogprobs>& logprobs,
                                  const std::string& finish_reason, const Usage& usage) const {
    OrderedJson choice = {{"index", index},
                          {"delta", std::move(delta)},
                          {"logprobs", logprobs.empty() ? OrderedJson() : logprobs_json(logprobs)},
                          {"finish_reason", reason_json(finish_reason)}};
    OrderedJson json = answer_json(head_, kChunk, OrderedJson::array({std::move(choice)}));
    add_chunk_usage(head_, usage, json);
    return sse_event(json_text(json));
  }

  AnswerHead head_;
};

}  // namespace

std::unique_ptr<AnswerFormat> make_chat_format(AnswerHead head) {
  return std::make_unique<ChatFormat>(std::move(head));
}

}  // namespace comet::server
