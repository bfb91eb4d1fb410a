// Values as text: Python's str() and repr(), and json.dumps as transformers' tojson calls it.
// Callers: output, ~, join and the filters string and tojson.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "comet/text/template/value/budget.h"
#include "comet/text/template/value/value.h"

namespace comet::text::jinja {

/// Shortest text that reads back as the same double, in Python's spelling: "1.0", "1e+16", "nan".
std::string double_text(double value);
/// A string in quotes, with what is not printable escaped.
std::string python_quoted(std::string_view text);

/// str(value). What is written is charged to the budget.
std::string text_of(Budget& budget, const Value& value);
/// repr(value).
std::string repr_of(Budget& budget, const Value& value);

/// With & < > " and ' as HTML's entities.
std::string html_escaped(std::string_view text);

struct JsonStyle {
  bool ensure_ascii = false;
  bool sort_keys = false;
  std::optional<std::string> indent;  // one level's
  std::string item_separator = ", ";  // "," by default where there is an indent
  std::string key_separator = ": ";
};

std::string json_of(Budget& budget, const Value& value, const JsonStyle& style);

}  // namespace comet::text::jinja
