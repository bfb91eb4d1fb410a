#include "comet/server/protocol/openapi/openapi.h"

#include "comet/server/protocol/openapi/request_schemas.h"

namespace comet::server {
namespace {

using Schema = OrderedJson;

Schema error_schema() {
  const Schema text = {{"type", "string"}};
  const Schema text_or_null = {{"type", {"string", "null"}}};
  const Schema error = {
      {"type", "object"},
      {"properties",
       {{"message", text}, {"type", text}, {"param", text_or_null}, {"code", text_or_null}}},
      {"required", {"message", "type", "param", "code"}}};
  return {{"type", "object"}, {"properties", {{"error", error}}}, {"required", {"error"}}};
}

Schema json_content(Schema schema) {
  return {{"application/json", {{"schema", std::move(schema)}}}};
}

Schema responses(const DocumentedRoute& route) {
  Schema content = json_content({{"type", "object"}});
  if (route.path == "/metrics") content = {{"text/plain", {{"schema", {{"type", "string"}}}}}};
  if (route.schema == "CompletionRequest" || route.schema == "ChatRequest") {
    content["text/event-stream"] = Schema::object();  // chunks, then [DONE]
  }
  Schema out = {{"200", {{"description", "Done"}, {"content", std::move(content)}}}};
  const auto add = [&](const char* status, const char* description) {
    out[status] = {{"description", description},
                   {"content", json_content({{"$ref", "#/components/schemas/Error"}})}};
  };
  if (!route.is_public) add("401", "No valid key");
  const bool has_argument = route.path.find('{') != std::string_view::npos;
  if (!route.schema.empty()) add("400", "A field, named in error.param, is at fault");
  if (!route.schema.empty() || has_argument) add("404", "No such model");
  if (!route.schema.empty()) add("413", "The body is too large");
  if (!route.schema.empty()) add("415", "The body is not application/json");
  if (!route.schema.empty()) add("429", "The queue is full: try again after Retry-After seconds");
  if (!route.is_public) add("503", "The model loads, or the server shuts down");
  return out;
}

Schema operation(const DocumentedRoute& route) {
  Schema out = {{"summary", route.summary}};
  if (route.is_public) out["security"] = Schema::array();
  const size_t brace = route.path.find('{');
  if (brace != std::string_view::npos) {
    const std::string name(route.path.substr(brace + 1, route.path.size() - brace - 2));
    const Schema text = {{"type", "string"}, {"minLength", 1}};
    out["parameters"] = {{{"name", name}, {"in", "path"}, {"required", true}, {"schema", text}}};
  }
  if (!route.schema.empty()) {
    const std::string reference = fmt::format("#/components/schemas/{}", route.schema);
    out["requestBody"] = {{"required", true}, {"content", json_content({{"$ref", reference}})}};
  }
  out["responses"] = responses(route);
  return out;
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(c - 'A' + 'a');
  return out;
}

}  // namespace

std::string openapi_json(std::span<const DocumentedRoute> routes, const RequestLimits& limits,
                         const std::string& version, bool with_keys) {
  Schema paths = Schema::object();
  for (const DocumentedRoute& route : routes) {
    paths[std::string(route.path)][lower(route.method)] = operation(route);
  }
  Schema schemas = request_schemas(limits);
  schemas["Error"] = error_schema();
  Schema components = {{"schemas", std::move(schemas)}};
  Schema document = {{"openapi", "3.1.0"},
                     {"info", {{"title", "Comet"}, {"version", version}}},
                     {"paths", std::move(paths)}};
  if (with_keys) {
    components["securitySchemes"] = {{"key", {{"type", "http"}, {"scheme", "bearer"}}}};
    document["security"] = Schema::array({{{"key", Schema::array()}}});
  }
  document["components"] = std::move(components);
  return document.dump(-1, ' ', false, Schema::error_handler_t::replace);
}

}  // namespace comet::server
