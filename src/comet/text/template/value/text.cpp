#include "comet/text/template/value/text.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>

#include "comet/text/template/value/characters.h"
#include "comet/text/template/value/function.h"
#include "comet/text/template/value/objects.h"
#include "comet/text/unicode/utf8.h"

namespace comet::text::jinja {
namespace {

void append_repr(Budget& budget, std::string& out, const Value& value);

/// str() of scalars; false for the rest.
bool append_scalar(std::string& out, const Value& value) {
  switch (value.kind()) {
    case Kind::kNone:
      out += "None";
      return true;
    case Kind::kBool:
      out += value.as_bool() ? "True" : "False";
      return true;
    case Kind::kInt:
      out += std::to_string(value.as_integer());
      return true;
    case Kind::kFloat:
      out += double_text(value.as_double());
      return true;
    default:
      return false;
  }
}

void append_items(Budget& budget, std::string& out, const Value& value, char open, char close) {
  out += open;
  bool first = true;
  for (const Value& item : value.items()) {
    if (!first) out += ", ";
    first = false;
    append_repr(budget, out, item);
  }
  if (value.is(Kind::kTuple) && value.items().size() == 1) out += ',';
  out += close;
}

void append_dict(Budget& budget, std::string& out, const DictData& dict) {
  out += '{';
  bool first = true;
  for (const auto& [key, item] : dict.entries) {
    if (!first) out += ", ";
    first = false;
    append_repr(budget, out, key);
    out += ": ";
    append_repr(budget, out, item);
  }
  out += '}';
}

void append_range(std::string& out, const SequenceData& range) {
  out += fmt::format("range({}, {}", range.start, range.stop);
  out += range.step == 1 ? ")" : fmt::format(", {})", range.step);
}

void append_repr(Budget& budget, std::string& out, const Value& value) {
  const Budget::Level level(budget);
  const size_t before = out.size();
  switch (value.kind()) {
    case Kind::kUndefined:
      out += "Undefined";
      break;
    case Kind::kString:
      budget.charge_steps(value.as_text().size() / 8);
      out += value.is_markup() ? fmt::format("Markup({})", python_quoted(value.as_text()))
                               : python_quoted(value.as_text());
      break;
    case Kind::kList:
      append_items(budget, out, value, '[', ']');
      break;
    case Kind::kTuple:
      append_items(budget, out, value, '(', ')');
      break;
    case Kind::kRange:
      append_range(out, value.as_sequence());
      break;
    case Kind::kView:
      out += value.as_sequence().name;
      out += '(';
      append_items(budget, out, value, '[', ']');
      out += ')';
      break;
    case Kind::kDict:
      append_dict(budget, out, value.as_dict());
      break;
    case Kind::kMacro:
      out += value.as_macro().name.empty()
                 ? "<Macro anonymous>"
                 : fmt::format("<Macro {}>", python_quoted(value.as_macro().name));
      break;
    case Kind::kFunction:
      out += fmt::format("<function {}>", value.as_function().name);
      break;
    case Kind::kIterator:
    case Kind::kNamespace:
    case Kind::kLoop:
      out += fmt::format("<{}>", type_name(value));
      break;
    default:
      append_scalar(out, value);
  }
  // Inner levels are charged again: bounded by the depth, and a value shared in many places costs
  // at every place.
  budget.charge_steps(1);
  budget.charge_bytes(out.size() - before);
}

}  // namespace

std::string double_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[32];
  const auto end =
      std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific);
  std::string_view text(buffer, static_cast<size_t>(end.ptr - buffer));
  std::string out = text.front() == '-' ? "-" : "";
  if (text.front() == '-') text.remove_prefix(1);
  const size_t e = text.find('e');
  int exponent = 0;
  const size_t digits_at = e + (text[e + 1] == '+' ? 2 : 1);
  std::from_chars(text.data() + digits_at, text.data() + text.size(), exponent);
  std::string digits(1, text[0]);
  if (e > 2) digits += text.substr(2, e - 2);
  const auto num_digits = static_cast<int>(digits.size());
  if (exponent < -4 || exponent >= 16) {
    out += digits[0];
    if (num_digits > 1) out.append(1, '.').append(digits, 1);
    return out + fmt::format("e{}{:02}", exponent < 0 ? '-' : '+', std::abs(exponent));
  }
  if (exponent < 0)
    return out + "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
  const size_t point = static_cast<size_t>(exponent) + 1;
  if (digits.size() <= point) return out + digits + std::string(point - digits.size(), '0') + ".0";
  return out.append(digits, 0, point).append(1, '.').append(digits, point);
}

std::string python_quoted(std::string_view text) {
  const bool has_single = text.find('\'') != std::string_view::npos;
  const bool has_double = text.find('"') != std::string_view::npos;
  const char quote = has_single && !has_double ? '"' : '\'';
  std::string out(1, quote);
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = code_point_at(text, at);
    if (c.value == static_cast<uint32_t>(quote) || c.value == '\\') {
      out += '\\';
      out += static_cast<char>(c.value);
    } else if (c.value == '\n') {
      out += "\\n";
    } else if (c.value == '\r') {
      out += "\\r";
    } else if (c.value == '\t') {
      out += "\\t";
    } else if (is_printable(c.value)) {
      out += text.substr(at, c.num_bytes);
    } else if (c.value < 0x100) {
      out += fmt::format("\\x{:02x}", c.value);
    } else if (c.value < 0x10000) {
      out += fmt::format("\\u{:04x}", c.value);
    } else {
      out += fmt::format("\\U{:08x}", c.value);
    }
    at += c.num_bytes;
  }
  return out + quote;
}

std::string html_escaped(std::string_view text) {
  constexpr std::string_view kSpecial = "&<>\"'";
  constexpr std::string_view kEntities[] = {"&amp;", "&lt;", "&gt;", "&#34;", "&#39;"};
  std::string out;
  for (const char c : text) {
    const size_t special = kSpecial.find(c);
    if (special == std::string_view::npos) {
      out += c;
    } else {
      out += kEntities[special];
    }
  }
  return out;
}

std::string text_of(Budget& budget, const Value& value) {
  if (value.is_string()) {
    budget.charge_bytes(value.as_text().size());
    return value.as_text();
  }
  if (value.is_undefined()) return {};
  return repr_of(budget, value);
}

std::string repr_of(Budget& budget, const Value& value) {
  std::string out;
  append_repr(budget, out, value);
  return out;
}

}  // namespace comet::text::jinja
