// POST /tokenize and /detokenize, GET /tokenizer_info
#include "comet/engine/engine_loop.h"
#include "comet/server/endpoints/body.h"
#include "comet/server/endpoints/endpoints.h"
#include "comet/server/protocol/answer/answer_json.h"

namespace comet::server::endpoints {
namespace {

bool has_tokenizer(const std::shared_ptr<Call>& call) {
  if (call->service().model()->tokenizer) return true;
  call->respond_error(bad_field("", "this model has no tokenizer"));
  return false;
}

}  // namespace

void tokenize(const std::shared_ptr<Call>& call) {
  TokenizeRequest request;
  if (!read_body(call, parse_tokenize, request) || !has_tokenizer(call)) return;
  const ServedModel& model = *call->service().model();
  std::vector<int32_t> ids;
  if (request.messages.empty()) {
    ids = model.tokenizer->encode(request.text, {request.add_special_tokens, true});
  } else if (const auto error = encode_messages(model, request.messages, ids)) {
    return call->respond_error(*error);
  }
  OrderedJson answer = {{"count", ids.size()},
                        {"max_model_len", call->service().loop().max_model_len()},
                        {"tokens", ids}};
  if (request.with_pieces) {
    OrderedJson pieces = OrderedJson::array();
    for (const int32_t id : ids) {
      pieces.push_back(token_name(std::string(model.tokenizer->token_bytes(id))));
    }
    answer["token_strs"] = std::move(pieces);
  }
  call->respond_json(json_text(answer));
}

void detokenize(const std::shared_ptr<Call>& call) {
  DetokenizeRequest request;
  if (!read_body(call, parse_detokenize, request) || !has_tokenizer(call)) return;
  const std::string text =
      call->service().model()->tokenizer->decode(request.tokens, /*skip_special=*/false);
  // vLLM's name and llama.cpp's.
  call->respond_json(json_text({{"prompt", text}, {"content", text}}));
}

void tokenizer_info(const std::shared_ptr<Call>& call) {
  const ServedModel* model = call->service().model();
  if (model == nullptr) return call->respond_error(unavailable("the model is loading"));
  if (has_tokenizer(call)) call->respond_json(model->tokenizer_info);
}

}  // namespace comet::server::endpoints
