// The functions that every template can call: range, namespace, dict, raise_exception,
// strftime_now, cycler and joiner are not among them. Caller: the interpreter.
#pragma once

#include <span>
#include <string_view>

#include "comet/text/template/value/function.h"

namespace comet::text::jinja {

struct BuiltinFunction {
  std::string_view name;
  Callable call;
};

std::span<const BuiltinFunction> builtin_functions();

}  // namespace comet::text::jinja
