// A template's text → tokens, by the rules of jinja2's lexer with trim_blocks and lstrip_blocks, as
// transformers sets them. Caller: the parser. Errors are thrown as TemplateError with the line.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace comet::text::jinja {

enum class TokenKind : uint8_t {
  kData,           // text between the tags
  kVariableBegin,  // {{
  kVariableEnd,
  kBlockBegin,  // {%
  kBlockEnd,
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,
  kEnd,  // of the template
};

struct Token {
  TokenKind kind;
  int line;
  std::string text;     // of data, names, operators; a string's value
  int64_t integer = 0;  // of an integer
  double real = 0;      // of a float
};

/// `source` is valid UTF-8. The last token is kEnd.
std::vector<Token> tokenize(std::string_view source);

/// A token for a message: "'endif'", "the end of the template".
std::string describe(const Token& token);

}  // namespace comet::text::jinja
