// Numbers and strings inside a tag, as jinja2's regular expressions and Python's unicode-escape
// read them. Caller: the lexer.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace comet::text::jinja {

struct Number {
  size_t num_bytes = 0;
  bool is_float = false;
  bool overflows = false;
  int64_t integer = 0;
  double real = 0;
};

/// The number that starts at the digit text[at].
Number number_at(std::string_view text, size_t at, bool may_be_float);

/// The value of a string's body; `problem` says what is wrong with it.
std::string unescaped(std::string_view body, std::string& problem);

}  // namespace comet::text::jinja
