// Chat messages → the prompt's text, as transformers' apply_chat_template makes it: a template in
// Jinja that came with the model runs in a sandbox with limits. Made once for a model; immutable,
// cheap to copy and safe to use from several threads. Callers: server and apps, which bring the
// bytes: this room touches no file.
#pragma once

#include <ctime>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "comet/base/result.h"
#include "comet/text/template/value/value.h"
#include "comet/text/template_limits.h"

namespace comet::text {

/// Made by value_of or parse_json_value (template/json_value.h), which keep the order of keys.
using TemplateValue = jinja::Value;

struct ChatInput {
  TemplateValue messages;  // a list of dicts: role, content, …
  TemplateValue tools;     // a list of JSON schemas; undefined or none: no tools
  bool add_generation_prompt = true;
  /// The prompt ends inside the last message, for the model to go on with it.
  bool continue_final_message = false;
  /// Further variables: enable_thinking, documents, … They win over all others but messages.
  std::vector<std::pair<std::string, TemplateValue>> variables;
  TemplateLimits limits;
};

class ChatTemplate {
 public:
  /// `text`: a template, mostly chat_template.jinja; `source_name` opens every error.
  static Result<ChatTemplate> from_text(std::string_view text, const std::string& source_name,
                                        const TemplateLimits& limits = {});
  /// `json_bytes`: the content of a tokenizer_config.json, for its "chat_template" (one text, or a
  /// list of named ones: "default", "tool_use") and the special tokens bos_token, eos_token, …
  /// kNotFound where the file has no template.
  static Result<ChatTemplate> from_config(std::string_view json_bytes,
                                          const std::string& source_name,
                                          const TemplateLimits& limits = {});
  /// The same with the text of a chat_template.jinja, which wins over the file's own.
  static Result<ChatTemplate> from_config_and_text(std::string_view json_bytes,
                                                   const std::string& config_name,
                                                   std::string_view text,
                                                   const std::string& text_name,
                                                   const TemplateLimits& limits = {});

  /// A variable of the template that stands for a special token: "bos_token", "<s>".
  void set_special_token(const std::string& name, const std::string& token);
  /// The clock of strftime_now, for tests; the machine's local time otherwise.
  void set_local_time(std::function<std::tm()> local_time) { local_time_ = std::move(local_time); }

  /// kInvalidArgument names the source, the line and the cause; a template's own raise_exception is
  /// such an error too.
  [[nodiscard]] Result<std::string> render(const ChatInput& input) const;

 private:
  struct Variant {
    std::string name;
    std::shared_ptr<const struct ParsedTemplate> parsed;
  };
  [[nodiscard]] Result<const Variant*> choose(bool has_tools) const;
  Status add_variant(const std::string& name, std::string_view text, const TemplateLimits& limits);

  std::string source_name_;
  std::vector<Variant> variants_;
  std::vector<std::pair<std::string, std::string>> special_tokens_;
  std::function<std::tm()> local_time_;
};

}  // namespace comet::text
