#include "comet/server/service.h"

#include <exception>

#include "comet/base/log.h"
#include "comet/engine/engine_loop.h"
#include "comet/server/access.h"
#include "comet/server/call.h"
#include "comet/server/routes.h"

namespace comet::server {
namespace {

/// What stands between a request and its endpoint; nullopt when nothing does.
std::optional<ApiError> refusal(const Service& service, const Call& call) {
  const http::HttpRequest& request = call.request();
  if (call.route == nullptr) {
    return ApiError{404, fmt::format("there is no route {}", log_text(request.path)),
                    "invalid_request_error", "", "not_found"};
  }
  if (!call.route->needs_model) return std::nullopt;
  if (service.draining()) return unavailable("the server is shutting down");
  if (service.model() == nullptr) return unavailable("the model is loading");
  const std::string_view type = request.header("content-type");
  // A browser sends other types across origins without asking; JSON it does not.
  if (!type.empty() && type.substr(0, type.find(';')) != "application/json") {
    return ApiError{415, "the body must have the Content-Type application/json",
                    "invalid_request_error", "", "unsupported_media_type"};
  }
  return std::nullopt;
}

void run_endpoint(const std::shared_ptr<Call>& call) {
  std::string message;
  try {
    return call->route->endpoint(call);
  } catch (const std::bad_alloc&) {
    return call->respond_error(unavailable("out of memory for this request"));
  } catch (const std::exception& error) {
    message = error.what();
  }
  log_warning("internal error in request {}: {}", call->request_id(), log_text(message));
  call->respond_error({500, "internal error; the server's log has it under the request id",
                       "server_error", "", "internal_error"});
}

}  // namespace

Service::Service(ServiceOptions options)
    : options_(std::move(options)), workers_(options_.num_workers) {}

Service::~Service() = default;

void Service::set_model(ServedModel model, engine::EngineLoop& loop) {
  model_ = std::move(model);
  loop_ = &loop;
  ready_limits_ = options_.limits;
  ready_limits_.vocab_size = loop.vocab_size();
  ready_ = true;
}

void Service::handle(const std::shared_ptr<http::Exchange>& exchange) {
  const http::HttpRequest& request = exchange->request();
  auto call =
      std::make_shared<Call>(*this, exchange, request_id_of(request.header("x-request-id")));
  RouteMatch match = find_route(request.method, request.path);
  call->route = match.route;
  call->path_argument = std::move(match.argument);
  const bool is_public = match.route != nullptr && match.route->is_public;
  if (!is_public && request.method != "OPTIONS" && !has_valid_key(request, options_.keys)) {
    return call->respond_error({401, "no valid API key; send Authorization: Bearer KEY",
                                "authentication_error", "", "invalid_api_key"});
  }
  if (match.route == nullptr && (!match.allow.empty() || request.path == "*")) {
    http::HttpResponse response;
    if (request.method == "OPTIONS") {
      response.status = 204;
    } else {
      response.status = 405;
      response.body = error_json({405, fmt::format("the method must be one of {}", match.allow),
                                  "invalid_request_error", "", "method_not_allowed"});
    }
    response.headers = {{"Allow", match.allow.empty() ? "GET, HEAD, POST, OPTIONS" : match.allow}};
    return call->respond(std::move(response));
  }
  if (const auto error = refusal(*this, *call)) return call->respond_error(*error);
  if (!match.route->on_worker) return run_endpoint(call);
  workers_.post([call] { run_endpoint(call); });
}

}  // namespace comet::server
