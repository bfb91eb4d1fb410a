#include "comet/server/endpoints/engine_requests.h"

#include <algorithm>
#include <random>

#include "comet/engine/engine_loop.h"

namespace comet::server {
namespace {

engine::SamplingParams sampling_params(const ServedModel& model, const GenerationParams& params) {
  engine::SamplingParams sampling = model.defaults;
  sampling.temperature = params.temperature.value_or(sampling.temperature);
  sampling.top_p = params.top_p.value_or(sampling.top_p);
  sampling.top_k = params.top_k.value_or(sampling.top_k);
  sampling.min_p = params.min_p.value_or(sampling.min_p);
  sampling.repetition_penalty = params.repetition_penalty.value_or(sampling.repetition_penalty);
  sampling.presence_penalty = params.presence_penalty.value_or(0);
  sampling.frequency_penalty = params.frequency_penalty.value_or(0);
  // The engine asks for a mass above 0; the likeliest token alone is what 0 means.
  constexpr double kLeastTopP = 1e-9;
  sampling.top_p = std::max(sampling.top_p, kLeastTopP);
  for (const auto& [token, bias] : params.logit_bias) {
    sampling.logit_bias.emplace_back(token, static_cast<float>(bias));
  }
  return sampling;
}

/// A whole answer's log-probabilities are held and written at once: their number is bounded.
std::optional<ApiError> check_num_logprobs(const Service& service, const GenerationPlan& plan,
                                           const std::vector<engine::Request>& requests) {
  if (!plan.params.num_logprobs || plan.params.stream) return std::nullopt;
  int64_t num_tokens = 0;
  for (const engine::Request& request : requests) {
    num_tokens += request.max_tokens;
    if (plan.echo) num_tokens += static_cast<int64_t>(request.prompt.size());
  }
  const int64_t total = num_tokens * (1 + *plan.params.num_logprobs);
  if (total <= service.options().max_answer_logprobs) return std::nullopt;
  return bad_field("logprobs", fmt::format("the answer may hold {} log-probabilities; at most {}: "
                                           "ask for fewer tokens or choices, or stream",
                                           total, service.options().max_answer_logprobs));
}

uint64_t random_seed() {
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

/// max_tokens of a prompt, or an error: what was asked must fit into the context.
std::optional<ApiError> fit_max_tokens(const GenerationPlan& plan, int64_t num_prompt_tokens,
                                       int64_t max_model_len, int64_t& max_tokens) {
  const int64_t room = max_model_len - num_prompt_tokens;
  const auto asked = plan.params.max_tokens;
  if (num_prompt_tokens == 0) {
    return bad_field(plan.prompt_field, "the prompt is empty: it needs a token");
  }
  if (room < asked.value_or(1)) {
    const std::string wanted =
        asked ? fmt::format(" and {} to generate were asked", *asked) : " with none to generate";
    ApiError error = bad_field(room < 1 ? plan.prompt_field : "max_tokens",
                               fmt::format("the context holds {} tokens; the prompt has {}{}",
                                           max_model_len, num_prompt_tokens, wanted));
    error.code = "context_length_exceeded";
    return error;
  }
  max_tokens =
      asked.value_or(plan.default_max_tokens == 0 ? room : std::min(room, plan.default_max_tokens));
  if (plan.params.min_tokens > max_tokens) {
    return bad_field("min_tokens", fmt::format("min_tokens is {}; max_tokens allows {}",
                                               plan.params.min_tokens, max_tokens));
  }
  return std::nullopt;
}

}  // namespace

std::optional<ApiError> make_engine_requests(const Service& service, const GenerationPlan& plan,
                                             std::vector<engine::Request>& requests) {
  const GenerationParams& params = plan.params;
  const int64_t capacity = service.loop().max_seqs() + service.options().max_queued;
  const auto num_sequences = static_cast<int64_t>(plan.prompts.size()) * params.n;
  if (num_sequences > capacity) {
    return bad_field(params.n > 1 ? "n" : plan.prompt_field,
                     fmt::format("the request asks for {} sequences; this server holds {}",
                                 num_sequences, capacity));
  }
  const uint64_t seed = params.seed ? static_cast<uint64_t>(*params.seed) : random_seed();
  for (const PromptTokens& prompt : plan.prompts) {
    engine::Request request;
    if (auto error = fit_max_tokens(plan, static_cast<int64_t>(prompt.ids.size()),
                                    service.loop().max_model_len(), request.max_tokens)) {
      return error;
    }
    request.prompt = prompt.ids;
    request.min_tokens = params.min_tokens;
    request.ignore_eos = params.ignore_eos;
    request.stop_tokens = params.stop_token_ids;
    request.stop_strings = params.stop;
    request.sampling = sampling_params(*service.model(), params);
    request.num_logprobs = params.num_logprobs.value_or(-1);
    request.prompt_logprobs = plan.echo && params.num_logprobs.has_value();
    for (int64_t i = 0; i < params.n; ++i) {
      request.sampling.seed = seed + static_cast<uint64_t>(i);  // choice 0 is what n = 1 gives
      requests.push_back(request);
    }
  }
  return check_num_logprobs(service, plan, requests);
}

std::optional<ApiError> encode_messages(const ServedModel& model,
                                        const std::vector<ChatMessage>& messages,
                                        std::vector<int32_t>& ids) {
  if (!model.render_chat) {
    return bad_field(
        "messages",
        fmt::format("the model has no chat template{}; use /v1/completions", model.chat_error));
  }
  if (!model.tokenizer) return bad_field("messages", "this model has no tokenizer");
  auto text = model.render_chat(messages);
  if (!text) return bad_field("messages", text.error().message);
  // The template writes BOS itself.
  ids = model.tokenizer->encode(*text, {/*add_special_tokens=*/false, /*parse_special=*/true});
  return std::nullopt;
}

}  // namespace comet::server
