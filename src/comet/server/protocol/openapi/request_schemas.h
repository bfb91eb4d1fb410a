// JSON schemas of the request bodies. Caller: openapi.cpp.
#pragma once

#include "comet/base/json.h"
#include "comet/server/protocol/request/request_limits.h"

namespace comet::server {

/// {"CompletionRequest": …, "ChatRequest": …, "TokenizeRequest": …, "DetokenizeRequest": …}
OrderedJson request_schemas(const RequestLimits& limits);

}  // namespace comet::server
