// What the generation routes are asked for, parsed and checked: plain values without JSON, sockets
// or engine types. Made by parse_*; read by endpoints.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "comet/base/json.h"
#include "comet/server/protocol/api_error.h"
#include "comet/server/protocol/request/request_limits.h"

namespace comet::server {

/// What /v1/completions and /v1/chat/completions share. An empty optional: the model's default.
struct GenerationParams {
  std::string model;  // empty: whatever is served
  std::optional<int64_t> max_tokens;
  int64_t min_tokens = 0;
  int64_t n = 1;
  std::optional<double> temperature, top_p, min_p;
  std::optional<double> presence_penalty, frequency_penalty, repetition_penalty;
  std::optional<int64_t> top_k;
  std::optional<int64_t> seed;
  bool ignore_eos = false;
  std::vector<std::string> stop;
  std::vector<int32_t> stop_token_ids;
  std::vector<std::pair<int32_t, double>> logit_bias;
  std::optional<int64_t> num_logprobs;  // alternatives per token; empty: no log-probabilities
  bool stream = false;
  bool include_usage = false;
  bool continuous_usage = false;
};

using Prompt = std::variant<std::string, std::vector<int32_t>>;

struct CompletionRequest {
  GenerationParams params;
  std::vector<Prompt> prompts;
  bool echo = false;
};

struct ChatMessage {
  std::string role;
  std::string content;
};

struct ChatRequest {
  GenerationParams params;
  std::vector<ChatMessage> messages;
};

struct TokenizeRequest {
  std::string text;
  std::vector<ChatMessage> messages;  // instead of text, when not empty
  bool add_special_tokens = true;
  bool with_pieces = false;
};

struct DetokenizeRequest {
  std::vector<int32_t> tokens;
};

// Each fills `out` or returns the first error, which names the field.
std::optional<ApiError> parse_completion(const Json& body, const RequestLimits& limits,
                                         CompletionRequest& out);
std::optional<ApiError> parse_chat(const Json& body, const RequestLimits& limits, ChatRequest& out);
std::optional<ApiError> parse_tokenize(const Json& body, const RequestLimits& limits,
                                       TokenizeRequest& out);
std::optional<ApiError> parse_detokenize(const Json& body, const RequestLimits& limits,
                                         DetokenizeRequest& out);

}  // namespace comet::server
