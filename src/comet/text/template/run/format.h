// Formatted text: Python's % and str.format with the usual fields, padding and replacing. Callers:
// operators, methods and filters.
#pragma once

#include <string>
#include <string_view>

#include "comet/text/template/run/interpreter.h"

namespace comet::text::jinja {

/// str.format(*arguments, **names). Fields: {}, {0}, {name}, .attribute and [key] behind these,
/// !r and !s, and a format such as ">8", "05d", ".2f" or "x".
Value format_method(Interpreter& run, const Value& self, const CallArguments& arguments);

/// Padded to `width` characters; `align` is '<', '>' or '^' (as str.center rounds).
std::string padded(Interpreter& run, std::string_view text, int64_t width, char align,
                   std::string_view fill);

/// str.replace; all occurrences where `max_count` is negative.
std::string replaced(Interpreter& run, std::string_view text, std::string_view old_part,
                     std::string_view replacement, int64_t max_count);

}  // namespace comet::text::jinja
