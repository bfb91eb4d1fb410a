// Filters that give a text or a number.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>

#include "comet/text/template/run/filters.h"
#include "comet/text/template/run/format.h"
#include "comet/text/template/run/interpreter.h"
#include "comet/text/template/run/operators.h"
#include "comet/text/template/value/characters.h"
#include "comet/text/template/value/text.h"
#include "comet/text/unicode/utf8.h"

namespace comet::text::jinja {
namespace {

template <std::string (*kFunction)(std::string_view)>
Value mapped(Interpreter& run, const Value& input, const CallArguments& arguments) {
  const Bound bound(run, "the filter", arguments, {});
  const std::string text = run.text_of(input);
  run.budget().charge_steps(text.size() / 8);
  return run.text(kFunction(text));
}

/// jinja2's title: a word starts behind white space and - ( { [ <.
std::string title_of_words(std::string_view text) {
  std::string out;
  size_t begin = 0;
  const auto flush = [&](size_t end) {
    if (end == begin) return;
    const size_t first = code_point_at(text, begin).num_bytes;
    out += upper(text.substr(begin, first));
    out += lower(text.substr(begin + first, end - begin - first));
  };
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = code_point_at(text, at);
    if (is_space(c.value) || (c.value < 0x80 && std::string_view("-({[<").find(static_cast<char>(
                                                    c.value)) != std::string::npos)) {
      flush(at);
      out += text.substr(at, c.num_bytes);
      begin = at + c.num_bytes;
    }
    at += c.num_bytes;
  }
  flush(text.size());
  return out;
}

Value trim(Interpreter& run, const Value& input, const CallArguments& arguments) {
  const Bound bound(run, "trim", arguments, {"chars"});
  const std::string text = run.text_of(input);
  run.budget().charge_steps(text.size() / 8);
  const bool has_chars = bound.find(0) != nullptr && !bound.at(0).is(Kind::kNone);
  const std::string_view chars = has_chars ? std::string_view(bound.text(0)) : std::string_view();
  return run.text(std::string(strip(text, has_chars ? &chars : nullptr, Side::kBoth)));
}

Value string(Interpreter& run, const Value& input, const CallArguments& arguments) {
  const Bound bound(run, "string", arguments, {});
  return input.is_string() ? input : run.text(run.text_of(input));
}

Value safe(Interpreter& run, const Value& input, const CallArguments& arguments) {
  const Bound bound(run, "safe", arguments, {});
  return Value::markup(run.text_of(input));
}

template <bool kForced>
Value escape(Interpreter& run, const Value& input, const CallArguments& arguments) {
  const Bound bound(run, "escape", arguments, {});
  if (input.is_markup() && !kForced) return input;
  const std::string text = run.text_of(input);
  run.budget().charge_bytes(text.size());
  run.budget().charge_steps(text.size() / 8);
  return Value::markup(html_escaped(text));
}

Value replace(Interpreter& run, const Value& input, const CallArguments& arguments) {
  const Bound bound(run, "replace", arguments, {"old", "new", "count"}, 2);
  const bool has_count = bound.find(2) != nullptr && !bound.at(2).is(Kind::kNone);
  return run.text(replaced(run, run.text_of(input), run.text_of(bound.at(0)),
                           run.text_of(bound.at(1)), has_count ? bound.integer(2, -1) : -1));
}

Value indent(Interpreter& run, const Value& input, const CallArguments& arguments) {
  const Bound bound(run, "indent", arguments, {"width", "first", "blank"});
  run.require_defined(input);
  if (!input.is_string()) run.fail("indent takes a text, not a {}", type_name(input));
  const bool is_text = bound.find(0) != nullptr && bound.at(0).is_string();
  const int64_t width = is_text ? 0 : bound.integer(0, 4);
  const std::string by = is_text ? bound.text(0) : padded(run, {}, width, '<', " ");
  const bool with_blank = bound.truth(2, false);
  const std::string text = input.as_text() + "\n";
  run.budget().charge_steps(text.size() / 8);
  std::string out;
  bool first = true;
  for (const std::string_view line : split_lines(text, false)) {
    run.budget().charge_bytes(by.size() + line.size() + 1);
    if (!first) out += '\n';
    if (first ? bound.truth(1, false) : with_blank || !line.empty()) out += by;
    first = false;
    out += line;
  }
  return run.text(std::move(out));
}

Value center(Interpreter& run, const Value& input, const CallArguments& arguments) {
  const Bound bound(run, "center", arguments, {"width"});
  return run.text(padded(run, run.text_of(input), bound.integer(0, 80), '^', " "));
}

Value truncate(Interpreter& run, const Value& input, const CallArguments& arguments) {
  const Bound bound(run, "truncate", arguments, {"length", "killwords", "end", "leeway"});
  const int64_t length = bound.integer(0, 255);
  const std::string end = bound.find(2) == nullptr ? "..." : bound.text(2);
  const int64_t leeway = bound.integer(3, 5);
  const auto end_length = static_cast<int64_t>(num_characters(end));
  if (length < end_length || leeway < 0) run.fail("truncate: the length is too small");
  if (has_length(input) && jinja::length(input) - leeway <= length) return input;
  if (!input.is_string()) run.fail("truncate takes a text, not a {}", type_name(input));
  const std::string_view text = input.as_text();
  std::string_view kept = text.substr(0, byte_of(text, static_cast<size_t>(length - end_length)));
  if (!bound.truth(1, false)) kept = kept.substr(0, std::min(kept.rfind(' '), kept.size()));
  return run.text(std::string(kept) + end);
}

Value word_count(Interpreter& run, const Value& input, const CallArguments& arguments) {
  const Bound bound(run, "wordcount", arguments, {});
  const std::string text = run.text_of(input);
  run.budget().charge_steps(text.size() / 8);
  int64_t count = 0;
  bool inside = false;
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = code_point_at(text, at);
    const bool is_word = is_upper(c.value) || is_lower(c.value) || c.value == '_' ||
                         (c.value >= '0' && c.value <= '9') || c.value >= 0x80;
    if (is_word && !inside) ++count;
    inside = is_word && !is_space(c.value);
    at += c.num_bytes;
  }
  return Value::integer(count);
}

Value format(Interpreter& run, const Value& input, const CallArguments& arguments) {
  if (!arguments.positional.empty() && !arguments.named.empty()) {
    run.fail("format takes values or names, not both");
  }
  Value values = run.tuple(arguments.positional);
  if (!arguments.named.empty()) {
    DictData names;
    for (const auto& [name, value] : arguments.named) names.set(Value::text(name), value);
    values = run.dict(std::move(names));
  }
  return format_percent(run, run.text_of(input), values);
}

/// int(text, base) of Python; nothing where it raises a ValueError.
std::optional<int64_t> parsed_integer(Interpreter& run, std::string_view text, int64_t base) {
  text = strip(text, nullptr, Side::kBoth);
  const bool is_negative = text.starts_with('-');
  if (is_negative || text.starts_with('+')) text.remove_prefix(1);
  const auto prefix = [&](char letter) {
    return text.size() > 2 && text[0] == '0' && (text[1] | 0x20) == letter;
  };
  for (const auto& [letter, of_letter] : {std::pair{'x', 16}, {'o', 8}, {'b', 2}}) {
    if ((base != of_letter && base != 0) || !prefix(letter)) continue;
    text.remove_prefix(2);
    base = of_letter;
    if (text.starts_with('_')) text.remove_prefix(1);
    break;
  }
  if (base == 0) base = 10;
  std::string digits;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool is_separator = text[i] == '_' && i > 0 && i + 1 < text.size() && text[i - 1] != '_';
    if (!is_separator) digits += text[i];
  }
  int64_t value = 0;
  if (digits.empty() || digits[0] == '-') return std::nullopt;
  if (is_negative) digits.insert(digits.begin(), '-');
  const auto result =
      std::from_chars(digits.data(), digits.data() + digits.size(), value, static_cast<int>(base));
  if (result.ptr != digits.data() + digits.size()) return std::nullopt;
  if (result.ec == std::errc::result_out_of_range) run.fail("an integer does not fit in 64 bits");
  return result.ec == std::errc() ? std::optional(value) : std::nullopt;
}

/// float(text) of Python.
std::optional<double> parsed_float(std::string_view text) {
  text = strip(text, nullptr, Side::kBoth);
  std::string digits;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto is_digit = [&](size_t at) {
      return at < text.size() && text[at] >= '0' && text[at] <= '9';
    };
    const bool is_separator = text[i] == '_' && i > 0 && is_digit(i - 1) && is_digit(i + 1);
    if (!is_separator) digits += text[i];
  }
  if (digits.starts_with('+')) {
    digits.erase(0, 1);
    if (digits.starts_with('-')) return std::nullopt;
  }
  double value = 0;
  if (lower(digits).find("nan(") != std::string::npos) return std::nullopt;
  const auto result = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (digits.empty() || result.ptr != digits.data() + digits.size()) return std::nullopt;
  if (result.ec == std::errc::result_out_of_range) value = std::strtod(digits.c_str(), nullptr);
  return value;
}

Value truncated(Interpreter& run, double value) {
  if (std::isinf(value) || std::abs(value) >= 9.2e18) run.fail("a float does not fit in 64 bits");
  return Value::integer(static_cast<int64_t>(value));
}

Value to_int(Interpreter& run, const Value& input, const CallArguments& arguments) {
  const Bound bound(run, "int", arguments, {"default", "base"});
  const Value fallback = bound.find(0) == nullptr ? Value::integer(0) : bound.at(0);
  const int64_t base = bound.integer(1, 10);
  if (base != 0 && (base < 2 || base > 36)) run.fail("int: the base is 0 or 2 to 36");
  run.require_defined(input);
  if (input.is_integer()) return Value::integer(input.as_integer());
  if (input.is(Kind::kFloat)) {
    return std::isnan(input.as_double()) ? fallback : truncated(run, input.as_double());
  }
  if (!input.is_string()) return fallback;
  run.budget().charge_scan(input.as_text().size());
  const std::optional<int64_t> whole = parsed_integer(run, input.as_text(), base);
  if (whole) return Value::integer(*whole);
  const std::optional<double> real = parsed_float(input.as_text());
  if (!real || !std::isfinite(*real)) return fallback;
  return truncated(run, *real);
}

Value to_float(Interpreter& run, const Value& input, const CallArguments& arguments) {
  const Bound bound(run, "float", arguments, {"default"});
  const Value fallback = bound.find(0) == nullptr ? Value::real(0) : bound.at(0);
  run.require_defined(input);
  if (input.is_number()) return Value::real(input.as_double());
  if (!input.is_string()) return fallback;
  run.budget().charge_scan(input.as_text().size());
  const std::optional<double> real = parsed_float(input.as_text());
  return real ? Value::real(*real) : fallback;
}

Value absolute(Interpreter& run, const Value& input, const CallArguments& arguments) {
  const Bound bound(run, "abs", arguments, {});
  run.require_defined(input);
  if (input.is(Kind::kFloat)) return Value::real(std::abs(input.as_double()));
  if (!input.is_integer()) run.fail("abs takes a number, not a {}", type_name(input));
  return signed_value(run, Value::integer(input.as_integer()), input.as_integer() < 0);
}

/// Python's round(): correctly rounded in decimal, ties to even.
double rounded(double value, int64_t precision) {
  if (!std::isfinite(value)) return value;
  if (precision > 300) return value;
  if (precision < 0) {
    const double unit = std::pow(10.0, static_cast<double>(-precision));
    return std::nearbyint(value / unit) * unit;
  }
  return std::strtod(fmt::format("{:.{}f}", value, precision).c_str(), nullptr);
}

Value round_number(Interpreter& run, const Value& input, const CallArguments& arguments) {
  const Bound bound(run, "round", arguments, {"precision", "method"});
  const int64_t precision = bound.integer(0, 0);
  const std::string method = bound.find(1) == nullptr ? "common" : bound.text(1);
  run.require_defined(input);
  if (!input.is_number()) run.fail("round takes a number, not a {}", type_name(input));
  if (precision < -300 || precision > 1000)
    run.fail("round: a precision of {} is too large", precision);
  if (method == "common") {
    if (!input.is_integer()) return Value::real(rounded(input.as_double(), precision));
    if (precision >= 0) return Value::integer(input.as_integer());
    return truncated(run, rounded(static_cast<double>(input.as_integer()), precision));
  }
  if (method != "ceil" && method != "floor") run.fail("round: the method is common, ceil or floor");
  const double unit = std::pow(10.0, static_cast<double>(precision));
  const double scaled = input.as_double() * unit;
  if (!std::isfinite(scaled)) run.fail("round: the number is too large");
  return Value::real(((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) + 0.0) /
                     unit);  // no −0, as integers
}

Value to_json(Interpreter& run, const Value& input, const CallArguments& arguments) {
  const Bound bound(run, "tojson", arguments,
                    {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ensure_ascii = bound.truth(0, false);
  style.sort_keys = bound.truth(3, false);
  if (bound.find(1) != nullptr && !bound.at(1).is(Kind::kNone)) {
    style.indent =
        bound.at(1).is_string() ? bound.text(1) : padded(run, {}, bound.integer(1, 0), '<', " ");
    style.item_separator.assign(1, ',');
  }
  if (bound.find(2) != nullptr && !bound.at(2).is(Kind::kNone)) {
    const std::vector<Value> both = run.items_of(bound.at(2));
    if (both.size() != 2 || !both[0].is_string() || !both[1].is_string()) {
      run.fail("tojson: separators are two texts");
    }
    style.item_separator = both[0].as_text();
    style.key_separator = both[1].as_text();
  }
  return run.text(json_of(run.budget(), input, style));
}

constexpr NamedFilter kFilters[] = {
    {"abs", absolute},
    {"capitalize", mapped<capitalize>},
    {"center", center},
    {"e", escape<false>},
    {"escape", escape<false>},
    {"float", to_float},
    {"forceescape", escape<true>},
    {"format", format},
    {"indent", indent},
    {"int", to_int},
    {"lower", mapped<lower>},
    {"replace", replace},
    {"round", round_number},
    {"safe", safe},
    {"string", string},
    {"title", mapped<title_of_words>},
    {"tojson", to_json},
    {"trim", trim},
    {"truncate", truncate},
    {"upper", mapped<upper>},
    {"wordcount", word_count},
};

}  // namespace

std::span<const NamedFilter> text_filters() { return kFilters; }

}  // namespace comet::text::jinja
