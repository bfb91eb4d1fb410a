// The table of routes: the dispatcher and /openapi.json read it. An endpoint adds one row.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "comet/server/call.h"

namespace comet::server {

using Endpoint = void (*)(const std::shared_ptr<Call>& call);

struct Route {
  std::string_view method;
  std::string_view path;    // "/v1/models/{model}": the last part may be a name in braces
  std::string_view schema;  // of the body in /openapi.json; empty: there is none
  std::string_view summary;
  Endpoint endpoint = nullptr;
  bool needs_model = false;  // 503 while loading and draining
  bool on_worker = false;    // parses a body or a template: off the I/O thread
  bool is_public = false;    // without a key
};

std::span<const Route> routes();

struct RouteMatch {
  const Route* route = nullptr;  // nullptr: no route of that path has the method
  std::string allow;             // "GET, HEAD, OPTIONS"; empty: no such path
  std::string argument;
};
/// HEAD finds GET routes.
RouteMatch find_route(std::string_view method, std::string_view path);

}  // namespace comet::server
