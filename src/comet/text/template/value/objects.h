// What a render owns and values point to: variables, namespaces, macros and loops. They may refer
// to each other in circles, and all go when the render ends. Callers: the interpreter.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "comet/text/template/value/value.h"

namespace comet::text::jinja {

struct MacroStatement;
struct ForStatement;

/// The variables of one block, by the template's symbol numbers.
struct Scope {
  Scope* parent = nullptr;
  bool is_captured = false;  // something that may outlive the block points to it
  std::vector<std::pair<int, Value>> variables;
};

struct Namespace {
  DictData attributes;
};

struct Macro {
  std::string name;  // empty: the body of a call block
  const MacroStatement* definition = nullptr;
  Scope* scope = nullptr;  // where it was defined
};

struct Loop {
  const ForStatement* statement = nullptr;
  Scope* scope = nullptr;  // around the loop
  std::vector<Value> items;
  size_t index0 = 0;
  int64_t depth0 = 0;
  std::optional<Value> last_changed;
};

}  // namespace comet::text::jinja
