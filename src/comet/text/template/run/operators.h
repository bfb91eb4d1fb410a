// Python's operators on values. Caller: the interpreter.
#pragma once

#include "comet/text/template/run/interpreter.h"

namespace comet::text::jinja {

Value arithmetic(Interpreter& run, Operator op, const Value& a, const Value& b);
bool compare(Interpreter& run, Operator op, const Value& a, const Value& b);
/// `value in container`.
bool contains(Interpreter& run, const Value& container, const Value& value);
/// −value or +value.
Value signed_value(Interpreter& run, const Value& value, bool is_negative);
/// `format % values`, printf-style.
Value format_percent(Interpreter& run, const std::string& format, const Value& values);

}  // namespace comet::text::jinja
