// The parser's place in the tokens, with the checks and errors that both halves of it share.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "comet/text/template/syntax/lexer.h"
#include "comet/text/template/value/budget.h"

namespace comet::text::jinja {

class TokenStream {
 public:
  explicit TokenStream(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  [[nodiscard]] const Token& current() const { return tokens_[at_]; }
  [[nodiscard]] const Token& next_token() const {
    return tokens_[at_ + 1 < tokens_.size() ? at_ + 1 : at_];
  }
  [[nodiscard]] int line() const { return current().line; }
  [[nodiscard]] bool at(TokenKind kind) const { return current().kind == kind; }
  [[nodiscard]] bool at_operator(std::string_view text) const {
    return is_operator(current(), text);
  }
  [[nodiscard]] bool at_name(std::string_view text) const { return is_name(current(), text); }
  [[nodiscard]] static bool is_operator(const Token& token, std::string_view text) {
    return token.kind == TokenKind::kOperator && token.text == text;
  }
  [[nodiscard]] static bool is_name(const Token& token, std::string_view text) {
    return token.kind == TokenKind::kName && token.text == text;
  }

  void skip() {
    if (at_ + 1 < tokens_.size()) ++at_;
  }
  Token take() {
    Token token = current();
    skip();
    return token;
  }
  bool skip_operator(std::string_view text) {
    const bool found = at_operator(text);
    if (found) skip();
    return found;
  }
  bool skip_name(std::string_view text) {
    const bool found = at_name(text);
    if (found) skip();
    return found;
  }
  void expect_operator(std::string_view text) {
    if (!skip_operator(text)) unexpected(fmt::format("'{}'", text));
  }
  std::string expect_name() {
    if (!at(TokenKind::kName)) unexpected("a name");
    return take().text;
  }
  void expect(TokenKind kind) {
    if (!at(kind)) unexpected(describe({kind, line(), {}}));
    skip();
  }

  [[noreturn]] void unexpected(const std::string& expected) const {
    fail_at(line(), fmt::format("found {}, expected {}", describe(current()), expected));
  }

 private:
  std::vector<Token> tokens_;  // ends with kEnd
  size_t at_ = 0;
};

}  // namespace comet::text::jinja
