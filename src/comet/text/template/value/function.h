// A function that a template can call, and the arguments of a call with their binding to the
// parameters' names as Python does it. Callers: methods, filters, tests and built-in functions.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "comet/text/template/value/value.h"

namespace comet::text::jinja {

class Interpreter;

struct CallArguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

/// `self` is the value of a method, the input of a filter or a test, undefined for a plain
/// function.
using Callable = Value (*)(Interpreter& run, const Value& self, const CallArguments& arguments);

struct FunctionData {
  Callable call;
  Value self;
  std::string_view name;  // of static life
};

/// Arguments bound to parameter names; too many or unknown ones end the render with an error.
class Bound {
 public:
  Bound(Interpreter& run, std::string_view function, const CallArguments& arguments,
        std::initializer_list<std::string_view> parameters, size_t num_required = 0);

  /// nullptr where the argument was not given.
  [[nodiscard]] const Value* find(size_t idx) const { return values_[idx]; }
  [[nodiscard]] const Value& at(size_t idx) const { return *values_[idx]; }  // a required one
  [[nodiscard]] bool truth(size_t idx, bool fallback) const;
  [[nodiscard]] int64_t integer(size_t idx, int64_t fallback) const;
  /// A text argument; an error when it is of another type.
  [[nodiscard]] const std::string& text(size_t idx) const;

 private:
  Interpreter& run_;
  std::string_view function_;
  std::vector<const Value*> values_;
};

}  // namespace comet::text::jinja
