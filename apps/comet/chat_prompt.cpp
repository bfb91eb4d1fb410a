#include "apps/comet/chat_prompt.h"

#include <filesystem>

#include "comet/io/file.h"

namespace comet::cli {
namespace {

constexpr size_t kMaxConfigBytes = size_t{64} << 20;

/// For models without a template: turns that any model can go on with.
constexpr const char* kPlainTemplate =
    "{{ bos_token }}{% for message in messages %}"
    "{{ message.role | capitalize }}: {{ message.content | trim }}\n"
    "{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}";

using text::ChatTemplate;
using text::TemplateValue;

TemplateValue value_of(const std::vector<ChatMessage>& messages) {
  std::vector<TemplateValue> list;
  for (const ChatMessage& message : messages) {
    text::jinja::DictData dict;
    dict.set(TemplateValue::text("role"), TemplateValue::text(message.role));
    dict.set(TemplateValue::text("content"), TemplateValue::text(message.content));
    list.push_back(TemplateValue::dict(std::move(dict)));
  }
  return TemplateValue::list(std::move(list));
}

}  // namespace

Result<ChatPrompt> ChatPrompt::open(const std::string& directory, const std::string& template_file,
                                    text::Tokenizer tokenizer) {
  const std::string config_path = directory + "/tokenizer_config.json";
  std::string text_path = template_file;
  if (text_path.empty() && std::filesystem::exists(directory + "/chat_template.jinja")) {
    text_path = directory + "/chat_template.jinja";
  }
  std::string config = "{}";
  if (std::filesystem::exists(config_path)) {
    auto bytes = io::read_file(config_path, kMaxConfigBytes);
    if (!bytes) return bytes.error();
    config = *std::move(bytes);
  }
  std::string text;
  if (!text_path.empty()) {
    auto bytes = io::read_file(text_path, kMaxConfigBytes);
    if (!bytes) return bytes.error();
    text = *std::move(bytes);
  }
  auto chat = ChatTemplate::from_config_and_text(config, config_path, text, text_path);
  const bool is_plain = !chat && chat.error().code == ErrorCode::kNotFound;
  if (is_plain) {
    chat = ChatTemplate::from_config_and_text(config, config_path, kPlainTemplate,
                                              "the plain template");
  }
  if (!chat) return chat.error();
  ChatPrompt prompt(*std::move(chat), std::move(tokenizer), is_plain);
  if (is_plain) prompt.stop_strings_ = {"\nUser:", "\nSystem:"};
  prompt.find_stop_tokens();
  return prompt;
}

/// The special token that the template writes behind an answer ends it, whatever the model's
/// configuration says of its end of text.
void ChatPrompt::find_stop_tokens() {
  const std::string mark = "zqAnswerqz";
  const auto whole = text({{"user", "Hi"}, {"assistant", mark}}, false);
  if (!whole) return;
  const size_t at = whole->rfind(mark);
  if (at == std::string::npos) return;
  const auto ids = tokenizer_.encode(std::string_view(*whole).substr(at + mark.size()),
                                     {.add_special_tokens = false, .parse_special = true});
  for (const int32_t id : ids) {
    if (!tokenizer_.is_special(id)) continue;
    stop_tokens_.push_back(id);
    return;
  }
}

Result<std::string> ChatPrompt::text(const std::vector<ChatMessage>& messages,
                                     bool add_generation_prompt) const {
  text::ChatInput input;
  input.messages = value_of(messages);
  input.add_generation_prompt = add_generation_prompt;
  return chat_.render(input);
}

Result<std::vector<int32_t>> ChatPrompt::tokens(const std::vector<ChatMessage>& messages) const {
  const auto whole = text(messages, true);
  if (!whole) return whole.error();
  return tokenizer_.encode(*whole, {.add_special_tokens = false, .parse_special = true});
}

}  // namespace comet::cli
