// The body of a request as JSON, stricter than files are read: bounded depth and number of values,
// no duplicate names, no numbers that a double cannot hold, nothing behind the value. Callers: the
// endpoints and the fuzzer.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "comet/base/json.h"
#include "comet/server/protocol/api_error.h"

namespace comet::server {

struct JsonBodyLimits {
  int max_depth = 64;
  // A value takes up to ~100 bytes here and as few as 2 in the body: this bounds the memory of one.
  int64_t max_values = int64_t{1} << 20;
};

/// An error when `body` is not one JSON object within the limits.
std::optional<ApiError> parse_json_body(std::string_view body, const JsonBodyLimits& limits,
                                        Json& object);

}  // namespace comet::server
