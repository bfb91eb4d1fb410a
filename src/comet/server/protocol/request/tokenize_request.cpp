// /tokenize and /detokenize, with the names of vLLM (prompt) and of llama.cpp (content).
#include "comet/server/protocol/request/generation_params.h"
#include "comet/server/protocol/request/messages.h"

namespace comet::server {

std::optional<ApiError> parse_tokenize(const Json& body, const RequestLimits& limits,
                                       TokenizeRequest& out) {
  const auto table = tokenize_fields();
  Fields fields(body, table);
  (void)fields.string("model");
  for (const char* name : {"add_special_tokens", "add_special"}) {
    out.add_special_tokens = fields.boolean(name).value_or(out.add_special_tokens);
  }
  for (const char* name : {"with_pieces", "return_token_strs"}) {
    out.with_pieces = fields.boolean(name).value_or(out.with_pieces);
  }
  if (!fields.ok()) return fields.error();
  if (const Json* messages = fields.find("messages")) {
    return read_messages(messages, limits, out.messages);
  }
  const Json* text = fields.find("prompt");
  if (text == nullptr) text = fields.find("content");
  if (text == nullptr || !text->is_string()) {
    fields.fail("prompt", "a string (or messages)");
    return fields.error();
  }
  out.text = text->get<std::string>();
  return std::nullopt;
}

std::optional<ApiError> parse_detokenize(const Json& body, const RequestLimits& limits,
                                         DetokenizeRequest& out) {
  const auto tokens = body.find("tokens");
  if (tokens == body.end() || !tokens->is_array()) {
    return bad_field("tokens", fmt::format("tokens is {}; expected a list of token ids",
                                           tokens == body.end() ? "missing" : value_text(*tokens)));
  }
  return read_token_ids(*tokens, limits, "tokens", out.tokens);
}

}  // namespace comet::server
