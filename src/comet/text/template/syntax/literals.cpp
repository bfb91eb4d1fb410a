#include "comet/text/template/syntax/literals.h"

#include <charconv>

#include "comet/text/template/value/characters.h"

namespace comet::text::jinja {
namespace {

bool is_digit(char c, int base) {
  if (base <= 10) return c >= '0' && c < '0' + base;
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/// Behind digits with single underscores between them; `at` itself where there is none.
/// `underscore_first` lets one stand before the first digit.
size_t behind_digits(std::string_view text, size_t at, int base, bool underscore_first = false) {
  size_t end = at;
  while (true) {
    size_t digit = end;
    if (digit < text.size() && text[digit] == '_' && (end > at || underscore_first)) ++digit;
    if (digit >= text.size() || !is_digit(text[digit], base)) return end;
    end = digit + 1;
  }
}

std::string without_underscores(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c != '_') out += c;
  }
  return out;
}

/// The end of a float that starts at `at`; `at` where there is none.
size_t float_end(std::string_view text, size_t at) {
  const size_t whole = behind_digits(text, at, 10);
  size_t end = whole;
  bool has_fraction = false;
  if (end < text.size() && text[end] == '.') {
    const size_t fraction = behind_digits(text, end + 1, 10);
    if (fraction > end + 1) {
      end = fraction;
      has_fraction = true;
    }
  }
  if (end < text.size() && (text[end] == 'e' || text[end] == 'E')) {
    size_t exponent = end + 1;
    if (exponent < text.size() && (text[exponent] == '+' || text[exponent] == '-')) ++exponent;
    const size_t exponent_end = behind_digits(text, exponent, 10);
    if (exponent_end > exponent) return exponent_end;
  }
  return has_fraction ? end : at;
}

int base_of(std::string_view text, size_t at) {
  if (text[at] != '0' || at + 1 >= text.size()) return 10;
  const char letter = static_cast<char>(text[at + 1] | 0x20);
  return letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 10;
}

/// Hexadecimal digits of a fixed number; −1 where they are not there.
int64_t hex_value(std::string_view text, size_t at, size_t num_digits) {
  if (at + num_digits > text.size()) return -1;
  int64_t value = 0;
  const char* end = text.data() + at + num_digits;
  const auto [stopped, error] = std::from_chars(text.data() + at, end, value, 16);
  return error == std::errc() && stopped == end && value >= 0 ? value : -1;
}

struct Escape {
  size_t num_bytes;  // behind the backslash; 0: not an escape
  uint32_t code_point;
};

Escape octal_escape(std::string_view body, size_t at) {
  Escape escape{0, 0};
  while (escape.num_bytes < 3 && at < body.size() && is_digit(body[at], 8)) {
    escape.code_point = escape.code_point * 8 + static_cast<uint32_t>(body[at++] - '0');
    ++escape.num_bytes;
  }
  return escape;
}

Escape escape_at(std::string_view body, size_t at, std::string& problem) {
  constexpr std::string_view kLetters = "abfnrtv\\'\"";
  constexpr std::string_view kValues = "\a\b\f\n\r\t\v\\'\"";
  const char c = body[at];
  const size_t simple = kLetters.find(c);
  if (simple != std::string_view::npos) return {1, static_cast<uint32_t>(kValues[simple])};
  if (is_digit(c, 8)) return octal_escape(body, at);
  const size_t num_digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
  if (c == 'N') problem = "\\N{...} is not supported in a string; write the character itself";
  if (num_digits == 0) return {0, 0};
  const int64_t value = hex_value(body, at + 1, num_digits);
  if (value < 0 || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) {
    problem = "a string has an escape that is no character";
    return {0, 0};
  }
  return {1 + num_digits, static_cast<uint32_t>(value)};
}

}  // namespace

Number number_at(std::string_view text, size_t at, bool may_be_float) {
  Number number;
  const size_t end = may_be_float ? float_end(text, at) : at;
  if (end > at) {
    number.is_float = true;
    number.num_bytes = end - at;
    const std::string digits = without_underscores(text.substr(at, end - at));
    const auto result = std::from_chars(digits.data(), digits.data() + digits.size(), number.real);
    if (result.ec == std::errc::result_out_of_range) number.overflows = true;
    return number;
  }
  const int base = base_of(text, at);
  size_t digits_at = base == 10 ? at : at + 2;
  size_t integer_end = base == 10 && text[at] == '0'
                           ? behind_digits(text, at, 1)
                           : behind_digits(text, digits_at, base, base != 10);
  if (integer_end == digits_at && base != 10) {  // "0x" without digits: the 0 alone
    digits_at = at;
    integer_end = at + 1;
  }
  number.num_bytes = integer_end - at;
  const std::string digits = without_underscores(text.substr(digits_at, integer_end - digits_at));
  const auto result =
      std::from_chars(digits.data(), digits.data() + digits.size(), number.integer, base);
  number.overflows = result.ec != std::errc();
  return number;
}

std::string unescaped(std::string_view body, std::string& problem) {
  std::string out;
  for (size_t at = 0; at < body.size(); ++at) {
    if (body[at] != '\\') {
      out += body[at];
      continue;
    }
    if (body[at + 1] == '\n') {  // a line that goes on
      ++at;
      continue;
    }
    const Escape escape = escape_at(body, at + 1, problem);
    if (!problem.empty()) return {};
    if (escape.num_bytes == 0) {
      out += '\\';
      continue;
    }
    append_utf8(out, escape.code_point);
    at += escape.num_bytes;
  }
  return out;
}

}  // namespace comet::text::jinja
