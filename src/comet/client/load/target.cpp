#include "comet/client/load/target.h"

namespace comet::client {
namespace {

constexpr size_t kMaxQuoted = 300;

/// The text of an OpenAI error body, else the start of what came.
std::string server_message(const std::string& body) {
  const auto json = parse_json(body, "answer");
  if (json && json->is_object()) {
    const auto error = json->find("error");
    if (error != json->end() && error->is_object() && error->contains("message") &&
        error->at("message").is_string()) {
      return error->at("message").get<std::string>().substr(0, kMaxQuoted);
    }
    if (error != json->end() && error->is_string()) {
      return error->get<std::string>().substr(0, kMaxQuoted);
    }
  }
  std::string text = body.substr(0, kMaxQuoted);
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = ' ';
  }
  return text;
}

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

Error call_error(const CallOutcome& outcome, const Target& target) {
  const bool usage = outcome.status == 401 || outcome.status == 403;
  return {usage ? ErrorCode::kInvalidArgument : ErrorCode::kIo, explain(outcome, target, {})};
}

Result<Json> answer_json(const CallOutcome& outcome, const Target& target,
                         const std::string& path) {
  if (!outcome.error_kind.empty()) return call_error(outcome, target);
  auto json = parse_json(outcome.body, target.url.text() + path);
  if (!json) {
    return make_error(ErrorCode::kCorrupt,
                      "{}{}: the answer is not JSON; is this an OpenAI server?", target.url.text(),
                      path);
  }
  return json;
}

}  // namespace

std::string explain(const CallOutcome& outcome, const Target& target,
                    const std::vector<std::string>& served) {
  if (outcome.status == 0 || outcome.error_kind == "protocol" || outcome.error_kind == "cut" ||
      outcome.error_kind == "stall" || outcome.error_kind == "time") {
    return outcome.message;
  }
  const std::string where = target.url.text();
  std::string said = server_message(outcome.body);
  if (said.empty()) said = outcome.message;
  if (outcome.status == 401 || outcome.status == 403) {
    return fmt::format("{}: status {}: {}; {}", where, outcome.status, said,
                       target.api_key.empty() ? "give the server's key by --api-key"
                                              : "the key of --api-key is not the server's");
  }
  if (outcome.status == 404 && !target.model.empty()) {
    const std::string names = served.empty() ? "" : "; the server has " + joined(served);
    return fmt::format("{}: status 404 for model '{}': {}{}", where, target.model, said, names);
  }
  return fmt::format("{}: status {}: {}", where, outcome.status, said);
}

Result<ServedModels> list_models(EventLoop& loop, const Target& target) {
  const std::string path = "/v1/models";
  CallRequest request;
  request.path = path;
  request.api_key = target.api_key;
  request.limits = target.limits;
  const auto json = answer_json(call_once(loop, std::move(request)), target, path);
  if (!json) return json.error();
  ServedModels served;
  const auto data = json->is_object() ? json->find("data") : json->end();
  if (json->is_object() && data != json->end() && data->is_array()) {
    for (const Json& entry : *data) {
      const JsonObject object(entry, target.url.text() + path);
      const auto id = object.string("id");
      if (!id || !*id) continue;
      if (served.names.empty()) {
        const auto length = object.integer("max_model_len", 1, int64_t{1} << 40);
        if (length) served.max_model_len = length->value_or(0);
      }
      served.names.push_back(**id);
    }
  }
  if (served.names.empty()) {
    return make_error(ErrorCode::kCorrupt,
                      "{}{}: the answer lists no model; is this an OpenAI server?",
                      target.url.text(), path);
  }
  return served;
}

Result<Json> post_json(EventLoop& loop, const Target& target, const std::string& path,
                       const Json& body) {
  CallRequest request;
  request.method = "POST";
  request.path = path;
  request.body = body.dump(-1, ' ', false, Json::error_handler_t::replace);
  request.api_key = target.api_key;
  request.limits = target.limits;
  return answer_json(call_once(loop, std::move(request)), target, path);
}

Status check_room(const ServedModels& served, const std::string& profile, int64_t input_tokens,
                  int64_t output_tokens) {
  if (served.max_model_len <= 0 || input_tokens + output_tokens <= served.max_model_len) return {};
  return make_error(ErrorCode::kInvalidArgument,
                    "profile '{}' needs {} + {} tokens, and the server's model has room for {}; "
                    "choose another profile or --input-len and --output-len",
                    profile, input_tokens, output_tokens, served.max_model_len);
}

}  // namespace comet::client
