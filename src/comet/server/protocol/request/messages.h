// The messages of a chat, read from JSON: roles, and contents as strings or lists of text parts.
// Callers: the parsers of /v1/chat/completions and /tokenize.
#pragma once

#include <optional>
#include <vector>

#include "comet/server/protocol/request/requests.h"

namespace comet::server {

/// `list` is the value of "messages"; nullptr when it is missing.
std::optional<ApiError> read_messages(const Json* list, const RequestLimits& limits,
                                      std::vector<ChatMessage>& out);

}  // namespace comet::server
