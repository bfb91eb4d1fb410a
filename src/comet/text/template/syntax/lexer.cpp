#include "comet/text/template/syntax/lexer.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "comet/text/template/syntax/literals.h"
#include "comet/text/template/value/budget.h"
#include "comet/text/template/value/characters.h"
#include "comet/text/unicode/unicode_tables.h"
#include "comet/text/unicode/utf8.h"

namespace comet::text::jinja {
namespace {

/// \r\n and \r become \n; one line end at the very end goes.
std::string with_plain_line_ends(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t at = 0; at < source.size(); ++at) {
    if (source[at] != '\r') {
      out += source[at];
      continue;
    }
    out += '\n';
    if (at + 1 < source.size() && source[at + 1] == '\n') ++at;
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

// Longest first.
constexpr std::array<std::string_view, 27> kOperators = {
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]",
    "(",  ")",  "{",  "}",  ">",  "<",  "=", ".", ":", "|", ",", ";", "!"};

enum class TagKind { kVariable, kBlock, kComment };

class Lexer {
 public:
  explicit Lexer(std::string_view source) : text_(with_plain_line_ends(source)) {}

  std::vector<Token> run() {
    while (at_ < text_.size()) {
      const size_t begin = next_tag();
      if (begin == std::string::npos) {
        add_data(std::string_view(text_).substr(at_));
        at_ = text_.size();
        break;
      }
      tag(begin);
    }
    push(TokenKind::kEnd, {});
    return std::move(tokens_);
  }

 private:
  [[nodiscard]] bool starts(std::string_view what, size_t at) const {
    return std::string_view(text_).substr(at, what.size()) == what;
  }
  [[nodiscard]] size_t behind_space(size_t at) const {
    while (at < text_.size()) {
      const CodePoint c = code_point_at(text_, at);
      if (!is_space(c.value)) break;
      at += c.num_bytes;
    }
    return at;
  }

  void push(TokenKind kind, std::string text) { tokens_.push_back({kind, line_, std::move(text)}); }

  void move_to(size_t at) {
    line_ += static_cast<int>(std::count(text_.begin() + static_cast<std::ptrdiff_t>(at_),
                                         text_.begin() + static_cast<std::ptrdiff_t>(at), '\n'));
    at_ = at;
  }

  /// The first "{{", "{%" or "{#".
  [[nodiscard]] size_t next_tag() const {
    size_t at = at_;
    while ((at = text_.find('{', at)) != std::string::npos) {
      if (at + 1 < text_.size() && std::string_view("{%#").find(text_[at + 1]) != std::string::npos)
        return at;
      ++at;
    }
    return at;
  }

  void add_data(std::string_view data) {
    if (!data.empty()) push(TokenKind::kData, std::string(data));
  }

  /// The data before a tag at `begin`, as the tag's sign and lstrip_blocks leave it.
  void data_before(size_t begin, char sign, bool strips_line) {
    std::string_view data = std::string_view(text_).substr(at_, begin - at_);
    if (sign == '-') {
      data = strip(data, nullptr, Side::kRight);
    } else if (sign != '+' && strips_line) {
      const size_t line_at = data.rfind('\n') + 1;  // 0 where there is none
      const bool at_line_start = line_at > 0 || at_ == 0 || text_[at_ - 1] == '\n';
      if (at_line_start && strip(data.substr(line_at), nullptr, Side::kLeft).empty()) {
        data = data.substr(0, line_at);
      }
    }
    add_data(data);
    move_to(begin);
  }

  [[nodiscard]] char sign_at(size_t at) const {
    return at < text_.size() && (text_[at] == '-' || text_[at] == '+') ? text_[at] : '\0';
  }

  void tag(size_t begin) {
    const char type = text_[begin + 1];
    const char sign = sign_at(begin + 2);
    const size_t inside = begin + 2 + (sign != '\0' ? 1 : 0);
    if (type == '%') {
      const size_t raw_end = end_of_raw_begin(inside);
      if (raw_end != 0) {
        data_before(begin, sign, true);
        move_to(raw_end);
        raw();
        return;
      }
    }
    data_before(begin, sign, type != '{');
    if (type == '#') {
      comment(inside);
      return;
    }
    push(type == '{' ? TokenKind::kVariableBegin : TokenKind::kBlockBegin, {});
    move_to(inside);
    inside_tag(type == '{' ? "}}" : "%}", type == '%');
  }

  /// Behind "raw %}" or "raw -%}"; 0 where the tag is another one.
  [[nodiscard]] size_t end_of_raw_begin(size_t inside) const {
    size_t at = behind_space(inside);
    if (!starts("raw", at)) return 0;
    at = behind_space(at + 3);
    if (starts("-%}", at)) return behind_space(at + 3);
    return starts("%}", at) ? at + 2 : 0;
  }

  /// Where a tag ends that closes with `close` at `at`: its line end, or with '-' all white space
  /// behind it, goes too. 0 where it does not close here.
  [[nodiscard]] size_t end_of_close(std::string_view close, size_t at, bool trims_line) const {
    const char sign = sign_at(at);
    if (sign == '-' && starts(close, at + 1)) return behind_space(at + 1 + close.size());
    if (sign == '+' && trims_line && starts(close, at + 1)) return at + 1 + close.size();
    if (!starts(close, at)) return 0;
    const size_t end = at + close.size();
    return trims_line && starts("\n", end) ? end + 1 : end;
  }

  void comment(size_t inside) {
    for (size_t at = text_.find('#', inside); at != std::string::npos;
         at = text_.find('#', at + 1)) {
      if (!starts("#}", at)) continue;
      // The sign belongs to the close, unless it opened the comment.
      const bool has_sign = at > inside && sign_at(at - 1) != '\0';
      move_to(end_of_close("#}", has_sign ? at - 1 : at, true));
      return;
    }
    fail_at(line_, "the comment is not closed by '#}'");
  }

  void raw() {
    for (size_t at = text_.find("{%", at_); at != std::string::npos;
         at = text_.find("{%", at + 1)) {
      const char sign = sign_at(at + 2);
      size_t end = behind_space(at + 2 + (sign != '\0' ? 1 : 0));
      if (!starts("endraw", end)) continue;
      end = end_of_close("%}", behind_space(end + 6), true);
      if (end == 0) continue;
      data_before(at, sign, true);
      move_to(end);
      return;
    }
    fail_at(line_, "the raw block is not closed by endraw");
  }

  void inside_tag(std::string_view close, bool trims_line) {
    std::string brackets;  // the closing ones that are awaited
    while (true) {
      move_to(behind_space(at_));
      if (at_ == text_.size()) {
        fail_at(line_, fmt::format("the tag is not closed by '{}'", close));
      }
      const size_t end = brackets.empty() ? end_of_close(close, at_, trims_line) : 0;
      if (end != 0) {
        push(trims_line ? TokenKind::kBlockEnd : TokenKind::kVariableEnd, {});
        move_to(end);
        return;
      }
      token(brackets);
    }
  }

  void token(std::string& brackets) {
    const CodePoint c = code_point_at(text_, at_);
    if (c.value >= '0' && c.value <= '9') {
      number();
    } else if (c.value == '_' || (class_of(c.value) & kWord) != 0) {
      name();
    } else if (c.value == '\'' || c.value == '"') {
      string_literal();
    } else {
      op(brackets);
    }
  }

  void number() {
    // A digit behind a dot is never the start of a float: x.1.2
    const bool may_be_float = at_ == 0 || text_[at_ - 1] != '.';
    const Number number = number_at(text_, at_, may_be_float);
    if (number.overflows) fail_at(line_, "an integer has more than 64 bits");
    push(number.is_float ? TokenKind::kFloat : TokenKind::kInteger,
         text_.substr(at_, number.num_bytes));
    tokens_.back().integer = number.integer;
    tokens_.back().real = number.real;
    at_ += number.num_bytes;
  }

  void name() {
    size_t end = at_;
    while (end < text_.size()) {
      const CodePoint c = code_point_at(text_, end);
      if (c.value != '_' && (class_of(c.value) & kWord) == 0) break;
      end += c.num_bytes;
    }
    push(TokenKind::kName, text_.substr(at_, end - at_));
    at_ = end;
  }

  void string_literal() {
    const char quote = text_[at_];
    size_t end = at_ + 1;
    while (end < text_.size() && text_[end] != quote) end += text_[end] == '\\' ? 2 : 1;
    if (end >= text_.size()) fail_at(line_, "the string is not closed");
    const std::string_view body = std::string_view(text_).substr(at_ + 1, end - at_ - 1);
    std::string problem;
    std::string value = unescaped(body, problem);
    if (!problem.empty()) fail_at(line_, problem);
    push(TokenKind::kString, std::move(value));
    move_to(end + 1);
  }

  void op(std::string& brackets) {
    const auto found = std::find_if(kOperators.begin(), kOperators.end(),
                                    [&](std::string_view each) { return starts(each, at_); });
    if (found == kOperators.end() || *found == "!") {
      const size_t num_bytes = code_point_at(text_, at_).num_bytes;
      fail_at(line_, fmt::format("unexpected character '{}'", text_.substr(at_, num_bytes)));
    }
    const char c = (*found)[0];
    if (c == '{' || c == '(' || c == '[') {
      brackets += c == '{' ? '}' : c == '(' ? ')' : ']';
    } else if (c == '}' || c == ')' || c == ']') {
      if (brackets.empty() || brackets.back() != c) {
        fail_at(line_, fmt::format("unexpected '{}'", c));
      }
      brackets.pop_back();
    }
    push(TokenKind::kOperator, std::string(*found));
    at_ += found->size();
  }

  std::string text_;
  size_t at_ = 0;
  int line_ = 1;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) { return Lexer(source).run(); }

std::string describe(const Token& token) {
  switch (token.kind) {
    case TokenKind::kEnd:
      return "the end of the template";
    case TokenKind::kBlockEnd:
      return "'%}'";
    case TokenKind::kVariableEnd:
      return "'}}'";
    case TokenKind::kString:
      return "a string";
    case TokenKind::kData:
      return "text";
    default:
      return fmt::format("'{}'", token.text);
  }
}

}  // namespace comet::text::jinja
