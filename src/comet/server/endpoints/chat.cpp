// POST /v1/chat/completions
#include "comet/server/endpoints/body.h"
#include "comet/server/endpoints/endpoints.h"

namespace comet::server::endpoints {

void chat(const std::shared_ptr<Call>& call) {
  const ServedModel& model = *call->service().model();
  ChatRequest request;
  if (!read_body(call, parse_chat, request)) return;
  if (const auto error = check_model_name(model, request.params.model)) {
    return call->respond_error(*error);
  }
  GenerationPlan plan;
  plan.prompt_field = "messages";
  if (const auto error =
          encode_messages(model, request.messages, plan.prompts.emplace_back().ids)) {
    return call->respond_error(*error);
  }
  const GenerationParams& params = request.params;
  plan.format = make_chat_format({"chatcmpl-" + call->request_id(), unix_time(), model.name,
                                  params.num_logprobs.has_value(), params.include_usage,
                                  params.continuous_usage});
  plan.params = std::move(request.params);
  if (!plan.params.ignore_eos) {
    plan.params.stop_token_ids.insert(plan.params.stop_token_ids.end(),
                                      model.chat_stop_tokens.begin(), model.chat_stop_tokens.end());
  }
  start_generation(call, std::move(plan));
}

}  // namespace comet::server::endpoints
