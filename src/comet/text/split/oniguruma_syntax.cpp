// A list of what is known to mean the same in both, by Oniguruma's RE document and the PCRE2
// manual; everything else is refused. The classes that differ are spelled out: \s (PCRE2 adds
// U+180E), \d and \w (UTS 18 against letters and digits), scripts (PCRE2 takes extensions).
#include "comet/text/split/oniguruma_syntax.h"

#include <algorithm>
#include <vector>

#include "comet/text/unicode/printable.h"

namespace comet::text {
namespace {

constexpr std::string_view kSpaceSet =
    R"(\x{9}-\x{D}\x{20}\x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";
constexpr std::string_view kNotSpaceSet =
    R"(\x{0}-\x{8}\x{E}-\x{1F}\x{21}-\x{84}\x{86}-\x{9F}\x{A1}-\x{167F}\x{1681}-\x{1FFF}\x{200B}-\x{2027}\x{202A}-\x{202E}\x{2030}-\x{205E}\x{2060}-\x{2FFF}\x{3001}-\x{10FFFF})";
constexpr std::string_view kWordSet =
    R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{B2}\x{B3}\x{B9}\x{BC}-\x{BE})";
constexpr std::string_view kCategories[] = {
    "L",  "Lu", "Ll", "Lt", "Lm", "Lo", "M",  "Mn", "Mc", "Me", "N",  "Nd", "Nl",
    "No", "P",  "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "S",  "Sm", "Sc", "Sk",
    "So", "Z",  "Zs", "Zl", "Zp", "C",  "Cc", "Cf", "Cs", "Co", "Cn"};

bool is_alphanumeric(char c) {
  return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

class Translation {
 public:
  explicit Translation(std::string_view regex) : regex_(regex) {}

  Result<std::string> run() {
    if (regex_.starts_with("(?i)")) {  // elsewhere Oniguruma takes the alternatives behind it along
      out_ = "(?i)";
      ignores_case_.back() = true;
      at_ = out_.size();
    }
    while (at_ < regex_.size() && reason_.empty()) {
      if (in_class_) {
        class_character();
      } else {
        character();
      }
    }
    if (!reason_.empty()) return make_error(ErrorCode::kUnsupported, "{}", reason_);
    return std::move(out_);
  }

 private:
  [[nodiscard]] char peek(size_t offset) const {
    return at_ + offset < regex_.size() ? regex_[at_ + offset] : '\0';
  }

  void take(size_t num_bytes) {
    out_ += regex_.substr(at_, num_bytes);
    at_ += num_bytes;
  }

  void refuse(std::string_view what) {
    reason_ = fmt::format("has {} at byte {}, which Comet does not support", what, at_);
  }

  void character() {
    switch (regex_[at_]) {
      case '\\':
        return escape();
      case '[':
        in_class_ = true;
        take(peek(1) == '^' ? 2 : 1);
        if (peek(0) == ']') refuse("a ']' that opens a character class");
        return;
      case '(':
        return group();
      case ')':
        if (ignores_case_.size() > 1) ignores_case_.pop_back();
        return take(1);
      case '{':
        return interval();
      default:
        return take(1);
    }
  }

  void class_character() {
    switch (regex_[at_]) {
      case '\\':
        return escape();
      case '[':
        return refuse("a '[' inside a character class");
      case '&':
        if (peek(1) == '&') return refuse("an intersection '&&'");
        return take(1);
      case ']':
        in_class_ = false;
        return take(1);
      default:
        return take(1);
    }
  }

  void group() {
    bool ignores_case = ignores_case_.back();
    size_t num_bytes = 1;
    if (peek(1) == '*') return refuse("a verb '(*'");
    if (peek(1) == '?') {
      const std::string_view rest = regex_.substr(at_);
      for (const std::string_view opening : {"(?:", "(?i:", "(?=", "(?!", "(?>", "(?<=", "(?<!"}) {
        if (!rest.starts_with(opening)) continue;
        num_bytes = opening.size();
        ignores_case = ignores_case || opening == "(?i:";
      }
      if (num_bytes == 1) return refuse("a group '(?...' of a kind");
    }
    ignores_case_.push_back(ignores_case);
    take(num_bytes);
  }

  /// {n}, {n,} or {n,m}; a '{' that is no interval is a character to both engines, but not always
  /// the same one.
  void interval() {
    size_t end = at_ + 1;
    while (end < regex_.size() && (is_digit(regex_[end]) || regex_[end] == ',')) ++end;
    const std::string_view body = regex_.substr(at_ + 1, end - at_ - 1);
    if (body.empty() || !is_digit(body[0]) || std::count(body.begin(), body.end(), ',') > 1 ||
        end == regex_.size() || regex_[end] != '}') {
      return refuse("a '{' that opens no {n,m}");
    }
    const char behind = end + 1 < regex_.size() ? regex_[end + 1] : '\0';
    if (behind == '+' || (behind == '?' && body.find(',') == std::string_view::npos)) {
      return refuse("an interval with '?' or '+' behind it");
    }
    take(end + 1 - at_);
  }

  void escape() {
    const char c = peek(1);
    switch (c) {
      case 's':
        return set(kSpaceSet, false);
      case 'S':
        return in_class_ ? set(kNotSpaceSet, false) : set(kSpaceSet, true);
      case 'd':
      case 'D':
        out_ += c == 'd' ? "\\p{Nd}" : "\\P{Nd}";
        at_ += 2;
        return;
      case 'w':
        return set(kWordSet, false);
      case 'W':
        return in_class_ ? refuse("\\W inside a character class") : set(kWordSet, true);
      case 'p':
      case 'P':
        return property();
      case 'x':
      case 'u':
        return code_point();
      default:
        break;
    }
    if (c == '\0') return refuse("a '\\' and nothing behind it");
    const bool is_control = c == 'r' || c == 'n' || c == 't' || c == 'f';
    if (is_alphanumeric(c) && !is_control) {
      return refuse(fmt::format("the escape \\{}", c));
    }
    take((static_cast<uint8_t>(c) & 0x80) == 0 ? 2 : 1);
    if ((static_cast<uint8_t>(c) & 0x80) != 0) out_.pop_back();  // the character stands for itself
  }

  void set(std::string_view members, bool negated) {
    if (in_class_) {
      out_ += members;
    } else {
      out_ += fmt::format("[{}{}]", negated ? "^" : "", members);
    }
    at_ += 2;
  }

  /// \p{L}, \p{^Lu}, \P{Han}: a general category or a script.
  void property() {
    const size_t close = regex_.find('}', at_);
    if (peek(2) != '{' || close == std::string_view::npos) return refuse("\\p without {name}");
    std::string_view name = regex_.substr(at_ + 3, close - at_ - 3);
    const bool negated = name.starts_with('^');
    if (negated) name.remove_prefix(1);
    if (name.empty() || !std::all_of(name.begin(), name.end(), is_alphanumeric)) {
      return refuse("a \\p{...} that is neither category nor script");
    }
    const bool is_cased = name == "Lu" || name == "Ll" || name == "Lt";
    if (is_cased && ignores_case_.back()) return refuse("a cased \\p{...} where case is ignored");
    const bool is_category = std::ranges::find(kCategories, name) != std::end(kCategories);
    out_ +=
        fmt::format("\\{}{{{}{}{}}}", peek(1), negated ? "^" : "", is_category ? "" : "sc:", name);
    at_ = close + 1;
  }

  /// \x{H...} or \uHHHH.
  void code_point() {
    const auto is_hex = [](char c) {
      return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
    };
    const bool braces = peek(1) == 'x';
    const size_t begin = at_ + (braces ? 3 : 2);
    size_t end = begin;
    while (end < regex_.size() && is_hex(regex_[end]) && (braces || end < begin + 4)) ++end;
    const bool is_whole = braces ? peek(2) == '{' && end > begin && end < begin + 7 &&
                                       end < regex_.size() && regex_[end] == '}'
                                 : end == begin + 4;
    if (!is_whole) return refuse("a code point that is neither \\x{...} nor \\uHHHH");
    out_ += fmt::format("\\x{{{}}}", regex_.substr(begin, end - begin));
    at_ = end + (braces ? 1 : 0);
  }

  std::string_view regex_;
  size_t at_ = 0;
  std::string out_;
  std::string reason_;
  bool in_class_ = false;
  std::vector<bool> ignores_case_ = {false};  // of the open groups
};

}  // namespace

Result<std::string> pcre2_syntax(std::string_view regex) { return Translation(regex).run(); }

}  // namespace comet::text
