// POST /v1/completions
#include "comet/server/endpoints/body.h"
#include "comet/server/endpoints/endpoints.h"

namespace comet::server::endpoints {
namespace {

constexpr int64_t kDefaultMaxTokens = 16;  // as OpenAI and vLLM

std::optional<ApiError> encode_prompts(const ServedModel& model, CompletionRequest& request,
                                       std::vector<PromptTokens>& prompts) {
  for (Prompt& prompt : request.prompts) {
    PromptTokens out;
    if (auto* ids = std::get_if<std::vector<int32_t>>(&prompt)) {
      out.ids = std::move(*ids);
      if (request.echo && model.tokenizer) {
        out.echo_text = model.tokenizer->decode(out.ids, /*skip_special=*/true);
      }
    } else {
      if (!model.tokenizer) {
        return bad_field("prompt", "this model has no tokenizer; send prompts as token ids");
      }
      out.echo_text = std::move(std::get<std::string>(prompt));
      out.ids = model.tokenizer->encode(out.echo_text);
      if (!request.echo) out.echo_text.clear();
    }
    prompts.push_back(std::move(out));
  }
  return std::nullopt;
}

}  // namespace

void completions(const std::shared_ptr<Call>& call) {
  const ServedModel& model = *call->service().model();
  CompletionRequest request;
  if (!read_body(call, parse_completion, request)) return;
  if (const auto error = check_model_name(model, request.params.model)) {
    return call->respond_error(*error);
  }
  GenerationPlan plan;
  plan.prompt_field = "prompt";
  plan.default_max_tokens = kDefaultMaxTokens;
  plan.echo = request.echo;
  if (const auto error = encode_prompts(model, request, plan.prompts)) {
    return call->respond_error(*error);
  }
  const GenerationParams& params = request.params;
  plan.format = make_completion_format({"cmpl-" + call->request_id(), unix_time(), model.name,
                                        params.num_logprobs.has_value(), params.include_usage,
                                        params.continuous_usage});
  plan.params = std::move(request.params);
  start_generation(call, std::move(plan));
}

}  // namespace comet::server::endpoints
