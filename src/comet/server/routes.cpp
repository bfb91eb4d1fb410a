#include "comet/server/routes.h"

#include <array>

#include "comet/server/endpoints/endpoints.h"

namespace comet::server {
namespace {

constexpr Route post(std::string_view path, std::string_view schema, std::string_view summary,
                     Endpoint endpoint) {
  return {"POST", path, schema, summary, endpoint, /*needs_model=*/true, /*on_worker=*/true};
}
constexpr Route get(std::string_view path, std::string_view summary, Endpoint endpoint) {
  return {"GET", path, "", summary, endpoint};
}

constexpr Route livez() {
  Route route = get("/livez", "Whether the process answers", endpoints::livez);
  route.is_public = true;
  return route;
}

constexpr auto kRoutes = std::to_array<Route>({
    post("/v1/completions", "CompletionRequest", "Continue a text", endpoints::completions),
    post("/completions", "CompletionRequest", "Continue a text", endpoints::completions),
    post("/v1/chat/completions", "ChatRequest", "Answer a conversation", endpoints::chat),
    post("/chat/completions", "ChatRequest", "Answer a conversation", endpoints::chat),
    post("/tokenize", "TokenizeRequest", "Text to token ids", endpoints::tokenize),
    post("/v1/tokenize", "TokenizeRequest", "Text to token ids", endpoints::tokenize),
    post("/detokenize", "DetokenizeRequest", "Token ids to text", endpoints::detokenize),
    post("/v1/detokenize", "DetokenizeRequest", "Token ids to text", endpoints::detokenize),
    get("/tokenizer_info", "What tokenizer_config.json says", endpoints::tokenizer_info),
    get("/v1/tokenizer_info", "What tokenizer_config.json says", endpoints::tokenizer_info),
    get("/v1/models", "The served model", endpoints::list_models),
    get("/models", "The served model", endpoints::list_models),
    get("/v1/models/{model}", "One model", endpoints::get_model),
    get("/models/{model}", "One model", endpoints::get_model),
    get("/health", "Whether requests are served", endpoints::health),
    get("/v1/health", "Whether requests are served", endpoints::health),
    livez(),
    get("/metrics", "Prometheus text", endpoints::metrics),
    get("/openapi.json", "This description", endpoints::openapi),
});

/// Percent-decoded; what is no valid escape stays.
std::string decode_percent(std::string_view text) {
  const auto digit = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
  };
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool escape =
        text[i] == '%' && i + 2 < text.size() && digit(text[i + 1]) >= 0 && digit(text[i + 2]) >= 0;
    out += escape ? static_cast<char>(digit(text[i + 1]) * 16 + digit(text[i + 2])) : text[i];
    if (escape) i += 2;
  }
  return out;
}

/// Whether `path` is the route's; what stands for its {…} goes to `argument`.
bool matches(const Route& route, std::string_view path, std::string& argument) {
  const size_t brace = route.path.find('{');
  if (brace == std::string_view::npos) return path == route.path;
  if (path.size() <= brace || path.substr(0, brace) != route.path.substr(0, brace)) return false;
  argument = decode_percent(path.substr(brace));
  return true;
}

}  // namespace

std::span<const Route> routes() { return kRoutes; }

RouteMatch find_route(std::string_view method, std::string_view path) {
  RouteMatch match;
  for (const Route& route : kRoutes) {
    std::string argument;
    if (!matches(route, path, argument)) continue;
    const bool is_get = route.method == "GET";
    match.allow = is_get ? "GET, HEAD, OPTIONS" : "POST, OPTIONS";
    if (method == route.method || (is_get && method == "HEAD")) {
      match.route = &route;
      match.argument = std::move(argument);
      return match;
    }
  }
  return match;
}

}  // namespace comet::server
