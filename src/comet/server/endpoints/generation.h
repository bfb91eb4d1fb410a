// A generation: the sequences of one request (prompts × n) from the engine's queue to the answer.
// Events come on the engine's thread; text becomes JSON on the I/O thread. Callers: the completions
// and chat endpoints.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "comet/engine/request.h"
#include "comet/server/call.h"
#include "comet/server/protocol/answer/answer.h"
#include "comet/server/protocol/request/requests.h"

namespace comet::server {

struct PromptTokens {
  std::vector<int32_t> ids;
  std::string echo_text;  // the prompt as it is repeated, when echo is asked
};

struct GenerationPlan {
  std::unique_ptr<AnswerFormat> format;
  GenerationParams params;
  std::vector<PromptTokens> prompts;
  bool echo = false;
  int64_t default_max_tokens = 0;  // 0: what the context leaves
  std::string prompt_field;        // "prompt" or "messages", for errors
};

/// Submits all sequences and answers the call when they end, or as they go for a stream.
void start_generation(const std::shared_ptr<Call>& call, GenerationPlan plan);

/// 404 when the request names a model that is not served.
std::optional<ApiError> check_model_name(const ServedModel& model, const std::string& name);

/// The conversation as the model's template writes it, in token ids.
std::optional<ApiError> encode_messages(const ServedModel& model,
                                        const std::vector<ChatMessage>& messages,
                                        std::vector<int32_t>& ids);

/// Seconds since 1970.
int64_t unix_time();

}  // namespace comet::server
