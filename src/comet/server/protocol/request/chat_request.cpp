// /v1/chat/completions: JSON to ChatRequest; and the messages of /tokenize.
#include <algorithm>
#include <array>

#include "comet/server/protocol/request/generation_params.h"
#include "comet/server/protocol/request/messages.h"

namespace comet::server {
namespace {

constexpr std::array<std::string_view, 4> kRoles = {"system", "developer", "user", "assistant"};

std::string at(const std::string& path, std::string_view field) {
  return fmt::format("{}.{}", path, field);
}

std::optional<ApiError> read_parts(const Json& parts, const std::string& path, std::string& text) {
  for (size_t i = 0; i < parts.size(); ++i) {
    const std::string part_path = fmt::format("{}[{}]", path, i);
    const Json& part = parts[i];
    if (!part.is_object()) {
      return bad_field(part_path, fmt::format("{} is {}; expected an object with type and text",
                                              part_path, value_text(part)));
    }
    const auto type = part.find("type");
    if (type == part.end() || *type != "text") {
      const std::string found = type == part.end() ? "missing" : value_text(*type);
      return bad_field(at(part_path, "type"),
                       fmt::format("{} is {}; this server reads parts of type \"text\" only",
                                   at(part_path, "type"), found));
    }
    const auto value = part.find("text");
    if (value == part.end() || !value->is_string()) {
      return bad_field(at(part_path, "text"),
                       fmt::format("{} must be a string", at(part_path, "text")));
    }
    text += value->get_ref<const std::string&>();
  }
  return std::nullopt;
}

std::optional<ApiError> read_role(const Json& message, const std::string& path, std::string& role) {
  const auto it = message.find("role");
  const std::string role_path = at(path, "role");
  if (it == message.end() || !it->is_string()) {
    return bad_field(role_path, fmt::format("{} must be a string", role_path));
  }
  role = it->get<std::string>();
  if (std::find(kRoles.begin(), kRoles.end(), role) == kRoles.end()) {
    return bad_field(role_path, fmt::format("{} is {}; expected system, developer, user or "
                                            "assistant",
                                            role_path, value_text(*it)));
  }
  if (role == "developer") role = "system";  // OpenAI's later name; templates know the older
  return std::nullopt;
}

std::optional<ApiError> read_message(const Json& message, const std::string& path,
                                     ChatMessage& out) {
  if (!message.is_object()) {
    return bad_field(path, fmt::format("{} is {}; expected an object with role and content", path,
                                       value_text(message)));
  }
  if (auto error = read_role(message, path, out.role)) return error;
  for (const char* field : {"tool_calls", "function_call", "tool_call_id", "audio"}) {
    const auto it = message.find(field);
    if (it != message.end() && !it->is_null() && !it->empty()) {
      return bad_field(at(path, field), fmt::format("{} is not supported by this server; leave it "
                                                    "out",
                                                    at(path, field)));
    }
  }
  const auto content = message.find("content");
  const std::string content_path = at(path, "content");
  if (content != message.end() && content->is_string()) {
    out.content = content->get<std::string>();
    return std::nullopt;
  }
  if (content != message.end() && content->is_array() && !content->empty()) {
    return read_parts(*content, content_path, out.content);
  }
  return bad_field(content_path,
                   fmt::format("{} is {}; expected a string or a list of text parts", content_path,
                               content == message.end() ? "missing" : value_text(*content)));
}

}  // namespace

std::optional<ApiError> read_messages(const Json* list, const RequestLimits& limits,
                                      std::vector<ChatMessage>& out) {
  if (list == nullptr || !list->is_array() || list->empty()) {
    return bad_field("messages", fmt::format("messages is {}; expected a list of messages",
                                             list == nullptr ? "missing" : value_text(*list)));
  }
  if (static_cast<int64_t>(list->size()) > limits.max_messages) {
    return bad_field("messages", fmt::format("messages has {} entries; expected at most {}",
                                             list->size(), limits.max_messages));
  }
  out.resize(list->size());
  for (size_t i = 0; i < out.size(); ++i) {
    if (auto error = read_message((*list)[i], fmt::format("messages[{}]", i), out[i])) return error;
  }
  return std::nullopt;
}

std::optional<ApiError> parse_chat(const Json& body, const RequestLimits& limits,
                                   ChatRequest& out) {
  std::vector<FieldSpec> table = generation_fields(limits);
  const std::vector<FieldSpec> own = chat_fields(limits);
  table.insert(table.end(), own.begin(), own.end());
  Fields fields(body, table);
  read_generation_params(fields, limits, out.params);
  if (const auto max_tokens = fields.integer("max_completion_tokens")) {
    out.params.max_tokens = max_tokens;
  }
  const bool logprobs = fields.boolean("logprobs").value_or(false);
  const auto top_logprobs = fields.integer("top_logprobs");
  if (logprobs) out.params.num_logprobs = top_logprobs.value_or(0);
  if (!logprobs && top_logprobs.value_or(0) > 0) {
    fields.fail(bad_field("top_logprobs", "top_logprobs needs logprobs: true"));
  }
  refuse_fields(fields, refused_chat_fields());
  if (!fields.ok()) return fields.error();
  return read_messages(fields.find("messages"), limits, out.messages);
}

}  // namespace comet::server
