// Target: a server and the model asked of it. Callers: bench serve, the study, prompts.
#pragma once

#include <string>
#include <vector>

#include "comet/base/json.h"
#include "comet/client/http/event_loop.h"

namespace comet::client {

struct Target {
  Url url;
  std::string api_key;
  std::string model;  // empty: the first that the server lists
  bool chat = false;  // /v1/chat/completions; else /v1/completions
  CallLimits limits;
};

/// What GET /v1/models lists; its error is the first that a user meets: no server, a wrong key, no
/// OpenAI server.
struct ServedModels {
  std::vector<std::string> names;
  int64_t max_model_len = 0;  // of the first; 0: the server does not say
};
Result<ServedModels> list_models(EventLoop& loop, const Target& target);

/// Whether the model holds a profile's prompt and answer.
Status check_room(const ServedModels& served, const std::string& profile, int64_t input_tokens,
                  int64_t output_tokens);

/// POST of a JSON body whose answer is JSON.
Result<Json> post_json(EventLoop& loop, const Target& target, const std::string& path,
                       const Json& body);

/// A sentence for the user: what the server said, and what to do about a 401 or 404.
std::string explain(const CallOutcome& outcome, const Target& target,
                    const std::vector<std::string>& served);

}  // namespace comet::client
