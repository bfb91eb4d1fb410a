#include "comet/server/protocol/request/request_limits.h"

namespace comet::server {
namespace {

constexpr double kMaxTokens = 2147483647;
constexpr double kInt64Low = -0x1p63;
constexpr double kInt64High = 0x1p63;  // compared as double: stands for 2^63 - 1
constexpr double kMaxNameBytes = 256;

}  // namespace

std::vector<FieldSpec> generation_fields(const RequestLimits& limits) {
  using enum FieldKind;
  return {
      {"model", kString, 0, 4096, "Name of the served model; may be left out"},
      {"min_tokens", kInteger, 0, kMaxTokens, "No end of text and no stop before this many"},
      {"n", kInteger, 1, static_cast<double>(limits.max_n), "Choices for each prompt"},
      {"temperature", kNumber, 0, 2, "0 is greedy"},
      {"top_p", kNumber, 0, 1, "Keep the likeliest tokens of this mass"},
      {"top_k", kInteger, -1, kMaxTokens, "Keep the k likeliest tokens; 0 and -1: all"},
      {"min_p", kNumber, 0, 1, "Drop tokens below this share of the likeliest"},
      {"presence_penalty", kNumber, -2, 2, "Subtracted once for a token that was generated"},
      {"frequency_penalty", kNumber, -2, 2, "Subtracted for each time a token was generated"},
      {"repetition_penalty", kNumber, 0.01, 100, "Divides logits of tokens seen; 1 is off"},
      {"seed", kInteger, kInt64Low, kInt64High, "Same seed and request, same tokens"},
      {"ignore_eos", kBoolean, 0, 0, "Go on behind an end-of-text token"},
      {"stream", kBoolean, 0, 0, "Answer as server-sent events"},
      {"user", kString, 0, kMaxNameBytes, "Accepted and ignored"},
      {"priority", kInteger, 0, 0, "Only 0: there are no priorities yet"},
  };
}

std::vector<FieldSpec> completion_fields(const RequestLimits& limits) {
  using enum FieldKind;
  return {
      {"max_tokens", kInteger, 0, kMaxTokens, "Tokens to generate at most (16); 0 needs echo"},
      {"echo", kBoolean, 0, 0, "Repeat the prompt before the answer"},
      {"logprobs", kInteger, 0, static_cast<double>(limits.max_top_logprobs),
       "Log-probabilities of the chosen and this many likeliest tokens"},
      {"best_of", kInteger, 1, static_cast<double>(limits.max_n), "Only the same as n"},
  };
}

std::vector<FieldSpec> chat_fields(const RequestLimits& limits) {
  using enum FieldKind;
  return {
      {"max_tokens", kInteger, 1, kMaxTokens,
       "Tokens to generate at most (what the context leaves)"},
      {"max_completion_tokens", kInteger, 1, kMaxTokens, "Newer name of max_tokens"},
      {"logprobs", kBoolean, 0, 0, "Log-probabilities of the chosen tokens"},
      {"top_logprobs", kInteger, 0, static_cast<double>(limits.max_top_logprobs),
       "Also of this many likeliest tokens; needs logprobs"},
  };
}

std::vector<FieldSpec> stream_option_fields() {
  using enum FieldKind;
  return {
      {"include_usage", kBoolean, 0, 0, "A last chunk with the usage"},
      {"continuous_usage_stats", kBoolean, 0, 0, "Usage so far in every chunk"},
      {"include_obfuscation", kBoolean, 0, 0, "Accepted and ignored"},
  };
}

std::vector<FieldSpec> tokenize_fields() {
  using enum FieldKind;
  return {
      {"model", kString, 0, 4096, "Name of the served model; may be left out"},
      {"add_special_tokens", kBoolean, 0, 0, "What the tokenizer adds, such as BOS (true)"},
      {"add_special", kBoolean, 0, 0, "llama.cpp's name of add_special_tokens"},
      {"with_pieces", kBoolean, 0, 0, "Also the text of each token"},
      {"return_token_strs", kBoolean, 0, 0, "vLLM's name of with_pieces"},
  };
}

std::vector<RefusedField> refused_completion_fields() {
  return {
      {"suffix", R"("")"},          {"prompt_logprobs", ""},
      {"use_beam_search", "false"}, {"response_format", R"({"type":"text"})"},
      {"guided_json", ""},          {"guided_regex", ""},
      {"guided_grammar", ""},       {"structured_outputs", ""},
      {"prompt_embeds", ""},        {"bad_words", "[]"},
      {"allowed_token_ids", ""},
  };
}

std::vector<RefusedField> refused_chat_fields() {
  return {
      {"response_format", R"({"type":"text"})"},
      {"tools", "[]"},
      {"tool_choice", R"("none")"},
      {"functions", "[]"},
      {"function_call", R"("none")"},
      {"chat_template", ""},
      {"chat_template_kwargs", "{}"},
      {"modalities", R"(["text"])"},
      {"audio", ""},
      {"prediction", ""},
      {"web_search_options", ""},
      {"prompt_logprobs", ""},
      {"use_beam_search", "false"},
      {"guided_json", ""},
      {"guided_regex", ""},
      {"guided_grammar", ""},
      {"structured_outputs", ""},
      {"echo", "false"},
      {"bad_words", "[]"},
      {"allowed_token_ids", ""},
      {"continue_final_message", "false"},
  };
}

}  // namespace comet::server
