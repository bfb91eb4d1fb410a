// text_completion objects: /v1/completions.
#include "comet/server/protocol/answer/answer_json.h"

namespace comet::server {
namespace {

OrderedJson logprobs_json(const std::vector<TokenLogprobs>& tokens) {
  OrderedJson names = OrderedJson::array();
  OrderedJson logprobs = OrderedJson::array();
  OrderedJson tops = OrderedJson::array();
  OrderedJson offsets = OrderedJson::array();
  for (const TokenLogprobs& token : tokens) {
    names.push_back(token_name(token.bytes));
    offsets.push_back(token.text_offset);
    if (!token.logprob) {
      logprobs.push_back(nullptr);
      tops.push_back(nullptr);
      continue;
    }
    logprobs.push_back(finite_logprob(*token.logprob));
    OrderedJson top = OrderedJson::object();
    for (const Alternative& other : token.top) {
      top[token_name(other.bytes)] = finite_logprob(other.logprob);
    }
    // As OpenAI: the chosen token is always among them; of two tokens of one spelling the likelier
    // one stays, which is how lm-evaluation-harness sees that the chosen one is not greedy.
    top.emplace(token_name(token.bytes), finite_logprob(*token.logprob));
    tops.push_back(std::move(top));
  }
  return {{"tokens", std::move(names)},
          {"token_logprobs", std::move(logprobs)},
          {"top_logprobs", std::move(tops)},
          {"text_offset", std::move(offsets)}};
}

class CompletionFormat final : public AnswerFormat {
 public:
  explicit CompletionFormat(AnswerHead head) : head_(std::move(head)) {}

  [[nodiscard]] std::string open_choice(int64_t /*index*/, const Usage& /*usage*/) const override {
    return "";
  }

  [[nodiscard]] std::string chunk(const ChoicePiece& piece, const Usage& usage) const override {
    OrderedJson json =
        answer_json(head_, "text_completion", OrderedJson::array({choice_json(piece)}));
    add_chunk_usage(head_, usage, json);
    return sse_event(json_text(json));
  }

  [[nodiscard]] std::string usage_chunk(const Usage& usage) const override {
    OrderedJson json = answer_json(head_, "text_completion", OrderedJson::array());
    json["usage"] = usage_json(usage);
    return sse_event(json_text(json));
  }

  [[nodiscard]] std::string whole(const std::vector<ChoicePiece>& choices,
                                  const Usage& usage) const override {
    OrderedJson list = OrderedJson::array();
    for (const ChoicePiece& choice : choices) list.push_back(choice_json(choice));
    OrderedJson json = answer_json(head_, "text_completion", std::move(list));
    json["usage"] = usage_json(usage);
    return json_text(json);
  }

 private:
  [[nodiscard]] OrderedJson choice_json(const ChoicePiece& piece) const {
    return {{"index", piece.index},
            {"text", piece.text},
            {"logprobs", head_.with_logprobs ? logprobs_json(piece.logprobs) : OrderedJson()},
            {"finish_reason",
             piece.finish_reason.empty() ? OrderedJson() : OrderedJson(piece.finish_reason)}};
  }

  AnswerHead head_;
};

}  // namespace

std::unique_ptr<AnswerFormat> make_completion_format(AnswerHead head) {
  return std::make_unique<CompletionFormat>(std::move(head));
}

}  // namespace comet::server
