// /v1/completions: JSON to CompletionRequest.
#include "comet/server/protocol/request/generation_params.h"

namespace comet::server {
namespace {

std::optional<ApiError> read_prompt_list(const Json& list, const RequestLimits& limits,
                                         std::vector<Prompt>& prompts) {
  if (list.empty()) return bad_field("prompt", "prompt is an empty list; expected a prompt");
  if (list.front().is_number()) {  // the ids of one prompt
    std::vector<int32_t> ids;
    auto error = read_token_ids(list, limits, "prompt", ids);
    prompts.emplace_back(std::move(ids));
    return error;
  }
  if (static_cast<int64_t>(list.size()) > limits.max_prompts) {
    return bad_field("prompt", fmt::format("prompt holds {} prompts; expected at most {}",
                                           list.size(), limits.max_prompts));
  }
  for (size_t i = 0; i < list.size(); ++i) {
    const std::string path = fmt::format("prompt[{}]", i);
    const Json& entry = list[i];
    if (entry.is_string() && list.front().is_string()) {
      prompts.emplace_back(entry.get<std::string>());
    } else if (entry.is_array() && list.front().is_array()) {
      if (entry.empty()) return bad_field(path, path + " is an empty list; expected token ids");
      std::vector<int32_t> ids;
      if (auto error = read_token_ids(entry, limits, path, ids)) return error;
      prompts.emplace_back(std::move(ids));
    } else {
      return bad_field(path, fmt::format("{} is {}; expected strings only, token ids only, or "
                                         "lists of token ids only",
                                         path, value_text(entry)));
    }
  }
  return std::nullopt;
}

}  // namespace

std::optional<ApiError> parse_completion(const Json& body, const RequestLimits& limits,
                                         CompletionRequest& out) {
  std::vector<FieldSpec> table = generation_fields(limits);
  const std::vector<FieldSpec> own = completion_fields(limits);
  table.insert(table.end(), own.begin(), own.end());
  Fields fields(body, table);
  read_generation_params(fields, limits, out.params);
  out.params.num_logprobs = fields.integer("logprobs");
  out.echo = fields.boolean("echo").value_or(false);
  const auto best_of = fields.integer("best_of");
  if (best_of && *best_of != out.params.n) fields.fail("best_of", "the same as n");
  if (out.params.max_tokens == 0 && !out.echo) {
    fields.fail(bad_field("max_tokens", "max_tokens is 0; expected at least 1 without echo"));
  }
  refuse_fields(fields, refused_completion_fields());
  const Json* prompt = fields.find("prompt");
  if (!fields.ok()) return fields.error();
  if (prompt != nullptr && prompt->is_string()) {
    out.prompts.emplace_back(prompt->get<std::string>());
    return std::nullopt;
  }
  if (prompt == nullptr || !prompt->is_array()) {
    fields.fail("prompt", "a string, a list of strings, of token ids, or of lists of token ids");
    return fields.error();
  }
  return read_prompt_list(*prompt, limits, out.prompts);
}

}  // namespace comet::server
