#include "comet/text/chat_template.h"

#include <algorithm>
#include <ranges>

#include "comet/base/json.h"
#include "comet/text/template/json_value.h"
#include "comet/text/template/run/interpreter.h"
#include "comet/text/template/syntax/parser.h"
#include "comet/text/template/value/characters.h"
#include "comet/text/unicode/printable.h"
#include "comet/text/unicode/utf8.h"

namespace comet::text {

struct ParsedTemplate {
  std::unique_ptr<jinja::Program> program;
};

namespace {

using jinja::DictData;
using jinja::Kind;
using jinja::Side;
using jinja::Value;

constexpr size_t kMaxConfigBytes = size_t{16} << 20;
constexpr size_t kMaxErrorBytes = 400;

std::tm system_local_time() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  return local;
}

/// A special token is a text, or an object whose "content" is it.
std::optional<std::string> token_text(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_object()) return std::nullopt;
  const auto content = value.find("content");
  if (content == value.end() || !content->is_string()) return std::nullopt;
  return content->get<std::string>();
}

/// The text that the last message ends with: its content, or its last text part.
Result<std::string> final_text(const ChatInput& input) {
  const Value& messages = input.messages;
  if (messages.is(Kind::kList) && !messages.items().empty() && messages.items().back().is_dict()) {
    const Value* content = messages.items().back().as_dict().find("content");
    if (content != nullptr && content->is_string()) return content->as_text();
    if (content != nullptr && content->is(Kind::kList)) {
      for (const Value& part : std::views::reverse(content->items())) {
        const Value* text = part.is_dict() ? part.as_dict().find("text") : nullptr;
        if (text != nullptr && text->is_string()) return text->as_text();
      }
    }
  }
  return make_error(ErrorCode::kInvalidArgument,
                    "continue_final_message: the last message has no text to go on with");
}

/// The prompt up to the end of the last message's text.
Result<std::string> cut_behind_final_text(std::string prompt, const ChatInput& input) {
  Result<std::string> text = final_text(input);
  if (!text) return text.error();
  const std::string_view bare = jinja::strip(*text, nullptr, Side::kBoth);
  const size_t at = prompt.rfind(bare);
  if (at == std::string::npos) {
    return make_error(ErrorCode::kInvalidArgument,
                      "continue_final_message: the template does not keep the last message's text");
  }
  // With the white space behind it where the template has kept that.
  const std::string_view whole = jinja::strip(*text, nullptr, Side::kLeft);
  const bool is_kept = prompt.compare(at, whole.size(), *text) == 0;
  prompt.resize(at + (is_kept ? whole.size() : bare.size()));
  return prompt;
}

}  // namespace

Status ChatTemplate::add_variant(const std::string& name, std::string_view text,
                                 const TemplateLimits& limits) {
  if (text.size() > limits.max_template_bytes) {
    return make_error(ErrorCode::kCorrupt, "{}: the chat template has {} bytes, more than {}",
                      source_name_, text.size(), limits.max_template_bytes);
  }
  try {
    auto parsed = std::make_shared<ParsedTemplate>();
    parsed->program = jinja::parse_template(replace_invalid_utf8(text), limits);
    variants_.push_back({name, std::move(parsed)});
  } catch (const jinja::TemplateError& error) {
    return make_error(ErrorCode::kInvalidArgument, "{}: chat template, {}", source_name_,
                      printable(error.what(), kMaxErrorBytes));
  }
  return {};
}

Result<ChatTemplate> ChatTemplate::from_text(std::string_view text, const std::string& source_name,
                                             const TemplateLimits& limits) {
  ChatTemplate result;
  result.source_name_ = source_name;
  const Status status = result.add_variant("default", text, limits);
  if (!status) return status.error();
  return result;
}

Result<ChatTemplate> ChatTemplate::from_config(std::string_view json_bytes,
                                               const std::string& source_name,
                                               const TemplateLimits& limits) {
  return from_config_and_text(json_bytes, source_name, {}, {}, limits);
}

Result<ChatTemplate> ChatTemplate::from_config_and_text(std::string_view json_bytes,
                                                        const std::string& config_name,
                                                        std::string_view text,
                                                        const std::string& text_name,
                                                        const TemplateLimits& limits) {
  Result<Json> config = parse_json(json_bytes, config_name, {.max_bytes = kMaxConfigBytes});
  if (!config) return config.error();
  ChatTemplate result;
  result.source_name_ = text_name.empty() ? config_name : text_name;
  const auto wrong = [&](std::string_view field) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: field '{}' is neither a text nor a list of {{name, template}}",
                      config_name, field);
  };
  if (!config->is_object()) return wrong("chat_template");
  Status status;
  const auto own = config->find("chat_template");
  if (!text_name.empty()) {
    status = result.add_variant("default", text, limits);
  } else if (own == config->end() || own->is_null()) {
    return make_error(ErrorCode::kNotFound, "{}: the model has no chat template", config_name);
  } else if (own->is_string()) {
    status = result.add_variant("default", own->get_ref<const std::string&>(), limits);
  } else if (own->is_array()) {
    for (const Json& each : *own) {
      if (!each.is_object() || !each.contains("name") || !each["name"].is_string() ||
          !each.contains("template") || !each["template"].is_string()) {
        return wrong("chat_template");
      }
      if (status)
        status = result.add_variant(each["name"], each["template"].get<std::string>(), limits);
    }
  } else {
    return wrong("chat_template");
  }
  if (!status) return status.error();
  for (const char* name : {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token",
                           "cls_token", "mask_token"}) {
    const auto at = config->find(name);
    const auto token = at == config->end() ? std::nullopt : token_text(*at);
    if (token) result.set_special_token(name, *token);
  }
  return result;
}

void ChatTemplate::set_special_token(const std::string& name, const std::string& token) {
  for (auto& [own, text] : special_tokens_) {
    if (own == name) {
      text = token;
      return;
    }
  }
  special_tokens_.emplace_back(name, token);
}

Result<const ChatTemplate::Variant*> ChatTemplate::choose(bool has_tools) const {
  const auto named = [&](std::string_view name) {
    const auto found = std::find_if(variants_.begin(), variants_.end(),
                                    [&](const Variant& each) { return each.name == name; });
    return found == variants_.end() ? nullptr : &*found;
  };
  if (has_tools && named("tool_use") != nullptr) return named("tool_use");
  if (named("default") != nullptr) return named("default");
  return make_error(ErrorCode::kInvalidArgument,
                    "{}: field 'chat_template' has no template named 'default'", source_name_);
}

Result<std::string> ChatTemplate::render(const ChatInput& input) const {
  const bool has_tools = !input.tools.is_undefined() && !input.tools.is(Kind::kNone);
  Result<const Variant*> variant = choose(has_tools);
  if (!variant) return variant.error();
  DictData variables;
  const auto set = [&](const std::string& name, Value value) {
    variables.set(Value::text(name), std::move(value));
  };
  set("documents", Value::none());
  for (const auto& [name, token] : special_tokens_) set(name, Value::text(token));
  set("tools", has_tools ? input.tools : Value::none());
  set("add_generation_prompt", Value::boolean(input.add_generation_prompt));
  for (const auto& [name, value] : input.variables) set(name, value);
  set("messages", input.messages);
  try {
    jinja::Budget budget(input.limits);
    jinja::Interpreter run(*(*variant)->parsed->program, budget,
                           local_time_ ? local_time_ : system_local_time);
    std::string prompt = run.run(variables);
    if (!input.continue_final_message) return prompt;
    return cut_behind_final_text(std::move(prompt), input);
  } catch (const jinja::TemplateError& error) {
    return make_error(ErrorCode::kInvalidArgument, "{}: chat template, {}", source_name_,
                      printable(error.what(), kMaxErrorBytes));
  }
}

}  // namespace comet::text
