// A conversation → the tokens that the model goes on from, by the model's chat template. Callers:
// chat, generate --chat and serve.
#pragma once

#include <string>
#include <vector>

#include "comet/base/result.h"
#include "comet/text/chat_template.h"
#include "comet/text/tokenizer.h"

namespace comet::cli {

struct ChatMessage {
  std::string role;
  std::string content;
};

class ChatPrompt {
 public:
  /// `template_file`: a Jinja file in place of the model's own template; empty: the folder's
  /// chat_template.jinja or tokenizer_config.json. A model without one gets kPlainTemplate, and
  /// is_plain() says so.
  static Result<ChatPrompt> open(const std::string& directory, const std::string& template_file,
                                 text::Tokenizer tokenizer);

  [[nodiscard]] Result<std::string> text(const std::vector<ChatMessage>& messages,
                                         bool add_generation_prompt) const;
  /// Of the text with the generation prompt.
  [[nodiscard]] Result<std::vector<int32_t>> tokens(const std::vector<ChatMessage>& messages) const;
  [[nodiscard]] bool is_plain() const { return is_plain_; }
  /// Special tokens that end a turn in this template; beside the model's own end of text.
  [[nodiscard]] const std::vector<int32_t>& stop_tokens() const { return stop_tokens_; }
  [[nodiscard]] const std::vector<std::string>& stop_strings() const { return stop_strings_; }

 private:
  ChatPrompt(text::ChatTemplate chat, text::Tokenizer tokenizer, bool is_plain)
      : chat_(std::move(chat)), tokenizer_(std::move(tokenizer)), is_plain_(is_plain) {}
  void find_stop_tokens();

  text::ChatTemplate chat_;
  text::Tokenizer tokenizer_;
  bool is_plain_;
  std::vector<int32_t> stop_tokens_;
  std::vector<std::string> stop_strings_;
};

}  // namespace comet::cli
