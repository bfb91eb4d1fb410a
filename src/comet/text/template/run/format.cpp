#include "comet/text/template/run/format.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "comet/text/template/run/operators.h"
#include "comet/text/template/value/characters.h"
#include "comet/text/template/value/text.h"
#include "comet/text/unicode/utf8.h"

namespace comet::text::jinja {
namespace {

constexpr int64_t kMaxWidth = 1 << 20;
constexpr int64_t kMaxPrecision = 100;

/// How one field is laid out; from "%-08.3f" or "{:*^+8.3f}".
struct Layout {
  std::string fill = " ";
  char align = '\0';  // '<', '>', '^', '=' (behind the sign); none: by the value's type
  char sign = '-';    // '+' and ' ' also mark positive numbers
  bool has_alternate = false;
  int64_t width = 0;
  int64_t precision = -1;
  char type = '\0';
};

std::string integer_digits(Interpreter& run, const Layout& layout, uint64_t magnitude) {
  switch (layout.type) {
    case 'x':
      return fmt::format("{:x}", magnitude);
    case 'X':
      return fmt::format("{:X}", magnitude);
    case 'o':
      return fmt::format("{:o}", magnitude);
    case 'b':
      return fmt::format("{:b}", magnitude);
    case 'd':
    case 'i':
    case 'u':
    case '\0':
      return std::to_string(magnitude);
    default:
      run.fail("an integer has no format '{}'", layout.type);
  }
}

std::string float_digits(Interpreter& run, const Layout& layout, double magnitude) {
  const int64_t precision = layout.precision < 0 ? 6 : layout.precision;
  std::string digits;
  switch (layout.type) {
    case 'f':
    case 'F':
      digits = fmt::format("{:.{}f}", magnitude, precision);
      break;
    case 'e':
      digits = fmt::format("{:.{}e}", magnitude, precision);
      break;
    case 'E':
      digits = fmt::format("{:.{}E}", magnitude, precision);
      break;
    case 'g':
      digits = fmt::format("{:.{}g}", magnitude, precision == 0 ? 1 : precision);
      break;
    case '%':
      return fmt::format("{:.{}f}%", magnitude * 100, precision);
    case '\0':
      if (layout.precision >= 0) run.fail("a float's format with a precision needs a type");
      return double_text(magnitude);
    default:
      run.fail("a float has no format '{}'", layout.type);
  }
  return digits;
}

std::string laid_out(Interpreter& run, const Layout& layout, std::string_view sign,
                     const std::string& body, char default_align) {
  const char align = layout.align == '\0' ? default_align : layout.align;
  if (align == '=') {
    return std::string(sign) +
           padded(run, body, layout.width - static_cast<int64_t>(sign.size()), '>', layout.fill);
  }
  // format()'s centre leaves the larger half on the right, str.center does not.
  const std::string text = std::string(sign) + body;
  const int64_t missing = layout.width - static_cast<int64_t>(num_characters(text));
  if (align != '^' || missing <= 0) return padded(run, text, layout.width, align, layout.fill);
  const std::string left = padded(run, text, layout.width - (missing + 1) / 2, '>', layout.fill);
  return padded(run, left, layout.width, '<', layout.fill);
}

std::string number_text(Interpreter& run, const Layout& layout, const Value& value) {
  const bool as_float = value.is(Kind::kFloat) ||
                        std::string_view("fFeEg%").find(layout.type) != std::string_view::npos;
  bool is_negative = false;
  std::string digits;
  if (as_float) {
    is_negative = std::signbit(value.as_double());
    digits = float_digits(run, layout, std::abs(value.as_double()));
  } else {
    if (layout.precision >= 0) run.fail("an integer's format has no precision");
    const int64_t number = value.as_integer();
    is_negative = number < 0;
    const auto bits = static_cast<uint64_t>(number);
    digits = integer_digits(run, layout, is_negative ? 0 - bits : bits);
  }
  std::string sign = is_negative ? "-" : layout.sign == '-' ? "" : std::string(1, layout.sign);
  if (layout.has_alternate &&
      std::string_view("xXob").find(layout.type) != std::string_view::npos) {
    sign += '0';
    sign += layout.type;
  }
  return laid_out(run, layout, sign, digits, '>');
}

std::string string_text(Interpreter& run, const Layout& layout, std::string_view text) {
  if (layout.align == '=') run.fail("'=' aligns numbers only");
  if (layout.precision >= 0) {
    text = text.substr(0, byte_of(text, static_cast<size_t>(layout.precision)));
  }
  return laid_out(run, layout, {}, std::string(text), '<');
}

int64_t digits_at(std::string_view text, size_t& at) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data() + at, text.data() + text.size(), value);
  if (error == std::errc::result_out_of_range) value = INT64_MAX;
  at = static_cast<size_t>(end - text.data());
  return value;
}

void check_sizes(Interpreter& run, const Layout& layout) {
  if (layout.width > kMaxWidth || layout.precision > kMaxPrecision) {
    run.fail("a format is wider than {} or more precise than {}", kMaxWidth, kMaxPrecision);
  }
}

bool is_digit(std::string_view text, size_t at) {
  return at < text.size() && text[at] >= '0' && text[at] <= '9';
}

/// "[[fill]align][sign][#][0][width][.precision][type]"
Layout parsed_layout(Interpreter& run, std::string_view spec) {
  Layout layout;
  size_t at = 0;
  const auto is_align = [&](size_t idx) {
    return idx < spec.size() && std::string_view("<>^=").find(spec[idx]) != std::string_view::npos;
  };
  const size_t fill_bytes = spec.empty() ? 0 : code_point_at(spec, 0).num_bytes;
  if (is_align(fill_bytes)) {
    layout.fill = spec.substr(0, fill_bytes);
    layout.align = spec[fill_bytes];
    at = fill_bytes + 1;
  } else if (is_align(0)) {
    layout.align = spec[at++];
  }
  if (at < spec.size() && std::string_view("+- ").find(spec[at]) != std::string_view::npos) {
    layout.sign = spec[at++];
  }
  if (at < spec.size() && spec[at] == '#') {
    layout.has_alternate = true;
    ++at;
  }
  if (at < spec.size() && spec[at] == '0') {
    if (layout.align == '\0') {
      layout.fill.assign(1, '0');
      layout.align = '=';
    }
    ++at;
  }
  if (is_digit(spec, at)) layout.width = digits_at(spec, at);
  if (at < spec.size() && spec[at] == '.') {
    ++at;
    if (!is_digit(spec, at)) run.fail("a format has no precision behind its point");
    layout.precision = digits_at(spec, at);
  }
  if (at < spec.size()) layout.type = spec[at++];
  if (at < spec.size()) run.fail("the format '{}' is not supported", spec.substr(0, 40));
  check_sizes(run, layout);
  return layout;
}

std::string formatted(Interpreter& run, const Value& value, std::string_view spec) {
  if (spec.empty()) return run.text_of(value);
  const Layout layout = parsed_layout(run, spec);
  if (value.is_string()) {
    if (layout.type != '\0' && layout.type != 's')
      run.fail("a text has no format '{}'", layout.type);
    return string_text(run, layout, value.as_text());
  }
  if (value.is_number()) return number_text(run, layout, value);
  run.fail("a {} has no format '{}'", type_name(value), spec.substr(0, 40));
}

/// "name", "0", "0.attribute", "name[key]".
class FieldReader {
 public:
  FieldReader(Interpreter& run, const CallArguments& arguments)
      : run_(run), arguments_(arguments) {}

  Value value_of(std::string_view field) {
    const size_t end = std::min(field.find_first_of(".["), field.size());
    Value value = first(field.substr(0, end));
    std::string_view rest = field.substr(end);
    while (!rest.empty()) {
      if (rest[0] == '.') {
        const size_t stop = std::min(rest.find_first_of(".[", 1), rest.size());
        value = run_.attribute(value, rest.substr(1, stop - 1));
        rest = rest.substr(stop);
      } else {
        const size_t close = rest.find(']');
        if (rest[0] != '[' || close == std::string_view::npos) {
          run_.fail("format(): a field's name is wrong");
        }
        const std::string key(rest.substr(1, close - 1));
        size_t at = 0;
        const bool is_number = is_digit(key, 0);
        value = run_.item(value, is_number ? Value::integer(digits_at(key, at)) : Value::text(key));
        rest = rest.substr(close + 1);
      }
    }
    return value;
  }

 private:
  Value first(std::string_view name) {
    size_t at = 0;
    if (name.empty() || is_digit(name, 0)) {
      const auto idx = static_cast<size_t>(name.empty() ? next_++ : digits_at(name, at));
      if (idx >= arguments_.positional.size()) run_.fail("format(): too few arguments");
      return arguments_.positional[idx];
    }
    for (const auto& [own, value] : arguments_.named) {
      if (own == name) return value;
    }
    run_.fail("format(): no argument '{}'", name);
  }

  Interpreter& run_;
  const CallArguments& arguments_;
  int64_t next_ = 0;
};

std::string percent_field(Interpreter& run, const Layout& layout, const Value& value) {
  if (layout.type == 's' || layout.type == 'r') {
    const std::string text = layout.type == 's' ? run.text_of(value) : repr_of(run.budget(), value);
    Layout plain = layout;
    if (plain.align == '=' || plain.align == '\0') {
      plain.align = '>';
      plain.fill.assign(1, ' ');
    }
    return string_text(run, plain, text);
  }
  run.require_defined(value);
  if (layout.type == 'c') {
    std::string character;
    if (value.is_string()) character = value.as_text();
    if (value.is_integer() && value.as_integer() >= 0 && value.as_integer() < 0x110000) {
      append_utf8(character, static_cast<uint32_t>(value.as_integer()));
    }
    if (num_characters(character) != 1 || !is_valid_utf8(character)) {
      run.fail("'%c' takes one character");
    }
    return laid_out(run, layout, {}, character, '>');
  }
  if (!value.is_number()) run.fail("'%{}' takes a number, not a {}", layout.type, type_name(value));
  const bool is_float_type = std::string_view("fFeEg").find(layout.type) != std::string_view::npos;
  if (is_float_type || !value.is(Kind::kFloat)) return number_text(run, layout, value);
  if (std::abs(value.as_double()) >= 9e18 || std::isnan(value.as_double())) {
    run.fail("a float does not fit in 64 bits");
  }
  return number_text(run, layout, Value::integer(static_cast<int64_t>(value.as_double())));
}

/// The layout behind a '%' at `at`; the caller knows that one follows.
Layout percent_layout(Interpreter& run, const std::string& format, size_t& at) {
  Layout layout;
  while (at < format.size() &&
         std::string_view("-+ 0#").find(format[at]) != std::string_view::npos) {
    const char flag = format[at++];
    if (flag == '-') layout.align = '<';
    if (flag == '0' && layout.align == '\0') layout.align = '=';
    if (flag == '0') layout.fill.assign(1, '0');
    if (flag == '+' || (flag == ' ' && layout.sign == '-')) layout.sign = flag;
    if (flag == '#') layout.has_alternate = true;
  }
  if (layout.align == '<') layout.fill.assign(1, ' ');
  if (is_digit(format, at)) layout.width = digits_at(format, at);
  if (at < format.size() && format[at] == '.') {
    ++at;
    layout.precision = is_digit(format, at) ? digits_at(format, at) : 0;
  }
  check_sizes(run, layout);
  if (at >= format.size() ||
      std::string_view("scdiurxXofFeEg").find(format[at]) == std::string_view::npos) {
    run.fail("a '%' in the text is not followed by a format that is supported");
  }
  layout.type = format[at++];
  return layout;
}

}  // namespace

std::string padded(Interpreter& run, std::string_view text, int64_t width, char align,
                   std::string_view fill) {
  const auto length = static_cast<int64_t>(num_characters(text));
  const int64_t missing = width - length;
  if (missing <= 0) return std::string(text);
  if (width > static_cast<int64_t>(run.budget().limits().max_memory_bytes / 4)) {
    run.fail("a width of {} is too large", width);
  }
  run.budget().charge_bytes(static_cast<size_t>(width) * fill.size());
  int64_t left = align == '<' ? 0 : missing;
  if (align == '^') left = missing / 2 + (missing & width & 1);
  std::string out;
  for (int64_t i = 0; i < left; ++i) out += fill;
  out += text;
  for (int64_t i = left; i < missing; ++i) out += fill;
  return out;
}

Value format_method(Interpreter& run, const Value& self, const CallArguments& arguments) {
  const std::string& format = self.as_text();
  run.budget().charge_scan(format.size());
  FieldReader fields(run, arguments);
  std::string out;
  for (size_t at = 0; at < format.size(); ++at) {
    const char c = format[at];
    if (c != '{' && c != '}') {
      out += c;
      continue;
    }
    if (at + 1 < format.size() && format[at + 1] == c) {
      out += c;
      ++at;
      continue;
    }
    const size_t close = format.find('}', at);
    if (c == '}' || close == std::string::npos) run.fail("format(): a brace stands alone");
    std::string_view field = std::string_view(format).substr(at + 1, close - at - 1);
    if (field.find('{') != std::string_view::npos) run.fail("format(): fields cannot be nested");
    const size_t colon = std::min(field.find(':'), field.size());
    const std::string_view spec = field.substr(std::min(colon + 1, field.size()));
    field = field.substr(0, colon);
    char conversion = '\0';
    if (field.size() >= 2 && field[field.size() - 2] == '!') {
      conversion = field.back();
      field.remove_suffix(2);
    }
    Value value = fields.value_of(field);
    if (conversion == 'r') value = run.text(repr_of(run.budget(), value));
    if (conversion == 's') value = run.text(run.text_of(value));
    const std::string text = formatted(run, value, spec);
    run.budget().charge_bytes(text.size());
    out += text;
    at = close;
  }
  return run.text(std::move(out));
}

Value format_percent(Interpreter& run, const std::string& format, const Value& values) {
  run.budget().charge_scan(format.size());
  const bool has_many = values.is(Kind::kTuple);
  const size_t num_values = has_many ? values.items().size() : 1;
  size_t next = 0;
  bool is_named = false;
  std::string out;
  for (size_t at = 0; at < format.size();) {
    if (format[at] != '%') {
      out += format[at++];
      continue;
    }
    ++at;
    if (at < format.size() && format[at] == '%') {
      out += format[at++];
      continue;
    }
    Value value;
    if (at < format.size() && format[at] == '(') {
      const size_t close = format.find(')', at);
      if (close == std::string::npos || !values.is_dict()) run.fail("'%(name)' takes a dict");
      const Value* found =
          values.as_dict().find(std::string_view(format).substr(at + 1, close - at - 1));
      if (found == nullptr) run.fail("'%(name)': the dict has no such key");
      value = *found;
      is_named = true;
      at = close + 1;
    } else {
      if (next >= num_values) run.fail("too few values for the format");
      value = has_many ? values.items()[next] : values;
      ++next;
    }
    const Layout layout = percent_layout(run, format, at);
    const std::string text = percent_field(run, layout, value);
    run.budget().charge_bytes(text.size());
    out += text;
  }
  const bool may_be_left =
      is_named || values.is_dict() || values.is_undefined() || (values.is_sequence() && !has_many);
  if (next < num_values && !may_be_left) run.fail("the format does not use all values");
  return run.text(std::move(out));
}

}  // namespace comet::text::jinja
