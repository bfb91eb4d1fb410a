// /openapi.json (OpenAPI 3.1), made of the route table and the field tables that the parsers check
// by, so that it cannot say what is not so. Caller: the endpoint.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "comet/server/protocol/request/request_limits.h"

namespace comet::server {

struct DocumentedRoute {
  std::string_view method;
  std::string_view path;
  std::string_view schema;  // "CompletionRequest"; empty: no body
  std::string_view summary;
  bool is_public = false;
};

std::string openapi_json(std::span<const DocumentedRoute> routes, const RequestLimits& limits,
                         const std::string& version, bool with_keys);

}  // namespace comet::server
