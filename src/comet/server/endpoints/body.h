// The body of a call as one of the parsed requests. Callers: the POST endpoints.
#pragma once

#include <memory>

#include "comet/server/call.h"
#include "comet/server/endpoints/generation.h"

namespace comet::server {

/// Answers the call and returns false unless the body is a request that `parse` takes.
template <typename Request>
bool read_body(const std::shared_ptr<Call>& call,
               std::optional<ApiError> (*parse)(const Json&, const RequestLimits&, Request&),
               Request& request) {
  const RequestLimits& limits = call->service().limits();
  Json body;
  auto error = parse_json_body(call->request().body, limits.json, body);
  call->exchange().release_body();
  if (!error) error = parse(body, limits, request);
  if (error) call->respond_error(*error);
  return !error;
}

}  // namespace comet::server
