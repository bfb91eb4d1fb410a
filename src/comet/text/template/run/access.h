// Slices and the methods of values; attributes and subscripts are Interpreter::attribute and item.
// Callers: the interpreter and filters.
#pragma once

#include <optional>
#include <string_view>

#include "comet/text/template/run/interpreter.h"

namespace comet::text::jinja {

struct SliceBounds {
  std::optional<int64_t> start, stop, step;
};

Value slice(Interpreter& run, const Value& value, const SliceBounds& bounds);

struct Method {
  std::string_view name;
  Callable call;  // nullptr: would change the value, which templates may not
};

/// The method of a text, list, tuple or dict; nullptr where it has none of that name.
const Method* find_method(Kind kind, std::string_view name);
const Method* find_string_method(std::string_view name);

}  // namespace comet::text::jinja
