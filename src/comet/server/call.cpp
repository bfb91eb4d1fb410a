#include "comet/server/call.h"

#include "comet/base/log.h"
#include "comet/server/access.h"
#include "comet/server/routes.h"

namespace comet::server {

void Call::respond(http::HttpResponse response) {
  response.headers.emplace_back("X-Request-Id", request_id_);
  finish(response.status, usage);
  exchange_->respond(std::move(response));
}

void Call::respond_json(std::string body) {
  http::HttpResponse response;
  response.body = std::move(body);
  respond(std::move(response));
}

void Call::respond_error(const ApiError& error) {
  http::HttpResponse response;
  response.status = error.status;
  response.body = error_json(error);
  if (error.status == 429 || error.status == 503) response.headers = {{"Retry-After", "1"}};
  if (error.status == 401) response.headers = {{"WWW-Authenticate", "Bearer"}};
  respond(std::move(response));
}

std::vector<http::Header> Call::stream_headers() const { return {{"X-Request-Id", request_id_}}; }

void Call::finish(int status, const Usage& used) {
  const std::string pattern = route == nullptr ? "other" : std::string(route->path);
  const std::string& method = request().method;
  // Labels come from the table, never from the client: their number is bounded.
  service_.metrics().count_response(
      pattern, route == nullptr ? "other" : std::string(route->method), status);
  if (!service_.options().access_log) return;
  log_info("{} {} {} {} {:.1f} ms, {} + {} tokens, id {}", request().peer, log_text(method),
           log_text(request().path), status, clock_.seconds() * 1e3, used.prompt_tokens,
           used.completion_tokens, request_id_);
}

}  // namespace comet::server
