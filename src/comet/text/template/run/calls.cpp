// Calls of macros and functions, and loops.
#include <algorithm>

#include "comet/text/template/run/block_scope.h"
#include "comet/text/template/run/interpreter.h"
#include "comet/text/template/value/characters.h"
#include "comet/text/template/value/compare.h"

namespace comet::text::jinja {

std::vector<Value> Interpreter::items_of(const Value& value) {
  std::vector<Value> items;
  if (value.is_string()) {
    budget_.charge_bytes(value.as_text().size() * 2 * sizeof(Value));
    for (const std::string_view each : characters(value.as_text())) {
      items.push_back(Value::text(std::string(each)));
    }
  } else if (value.is(Kind::kIterator)) {
    const SequenceData& data = value.as_sequence();
    items.assign(data.items.begin() + static_cast<std::ptrdiff_t>(data.next_idx), data.items.end());
    data.next_idx = data.items.size();
  } else if (value.is_sequence()) {
    budget_.charge_bytes(value.items().size() * sizeof(Value));
    items = value.items();
  } else if (value.is_dict()) {
    for (const auto& [key, item] : value.as_dict().entries) items.push_back(key);
  } else if (!value.is_undefined()) {
    fail("a {} cannot be iterated", type_name(value));
  }
  budget_.charge_steps(items.size());
  return items;
}

Macro* Interpreter::make_macro(const MacroStatement& definition) {
  budget_.charge_bytes(sizeof(Macro));
  for (Scope* scope = scope_; scope != nullptr && !scope->is_captured; scope = scope->parent) {
    scope->is_captured = true;
    budget_.charge_bytes(sizeof(Scope) + scope->variables.size() * sizeof(Value));
  }
  macros_.push_back(std::make_unique<Macro>(Macro{definition.name, &definition, scope_}));
  return macros_.back().get();
}

void Interpreter::run_macro(const Statement& statement) {
  set_variable(*scope_, statement.macro->symbol, Value::macro(make_macro(*statement.macro)));
}

void Interpreter::run_call_block(const Statement& statement) {
  const Expression& expression = *statement.expressions[0];
  const Value callee = evaluate(*expression.parts[0]);
  CallArguments arguments = evaluate_arguments(*expression.arguments);
  // Behind the names and before what ** adds, as jinja2 orders them in kwargs.
  const auto num_named = static_cast<std::ptrdiff_t>(expression.arguments->named.size());
  arguments.named.emplace(arguments.named.begin() + num_named, "caller",
                          Value::macro(make_macro(*statement.macro)));
  budget_.set_line(statement.line);
  write_value(call(callee, arguments));
}

Value Interpreter::call(const Value& callee, const CallArguments& arguments) {
  const Budget::Level level(budget_);
  require_defined(callee);
  if (callee.is(Kind::kMacro)) return call_macro(callee.as_macro(), arguments);
  if (callee.is(Kind::kLoop)) return call_loop(callee.as_loop(), arguments);
  if (!callee.is(Kind::kFunction)) fail("a {} cannot be called", type_name(callee));
  const FunctionData& function = callee.as_function();
  return function.call(*this, function.self, arguments);
}

Value Interpreter::call_macro(const Macro& macro, const CallArguments& arguments) {
  const int line = budget_.line();
  const BlockScope scope(*this, macro.scope);
  bind_parameters(macro, arguments);
  std::string out;
  capture(macro.definition->body, out);
  budget_.set_line(line);
  return text(std::move(out));
}

void Interpreter::bind_parameters(const Macro& macro, const CallArguments& arguments) {
  const MacroStatement& definition = *macro.definition;
  const size_t num_parameters = definition.parameters.size();
  const size_t first_default = num_parameters - definition.defaults.size();
  std::vector<bool> used(arguments.named.size());
  std::vector<size_t> missing;
  for (size_t i = 0; i < num_parameters; ++i) {
    const auto& [symbol, name] = definition.parameters[i];
    const Value* given = i < arguments.positional.size() ? &arguments.positional[i] : nullptr;
    for (size_t n = 0; given == nullptr && n < arguments.named.size(); ++n) {
      if (arguments.named[n].first != name) continue;
      given = &arguments.named[n].second;
      used[n] = true;
    }
    if (given == nullptr) missing.push_back(i);
    Value value = given != nullptr
                      ? *given
                      : Value::undefined(fmt::format("parameter '{}' was not provided", name));
    set_variable(*scope_, symbol, std::move(value));
  }
  bind_special(macro, arguments, used);
  for (const size_t i : missing) {  // a default may use the parameters before it
    if (i < first_default) continue;
    set_variable(*scope_, definition.parameters[i].first,
                 evaluate(*definition.defaults[i - first_default]));
  }
}

void Interpreter::bind_special(const Macro& macro, const CallArguments& arguments,
                               std::vector<bool>& used) {
  const MacroStatement& definition = *macro.definition;
  const std::string_view name = macro.name.empty() ? "caller" : std::string_view(macro.name);
  if (definition.uses_caller) {
    Value caller = Value::undefined("No caller defined");
    for (size_t n = 0; n < arguments.named.size(); ++n) {
      if (used[n] || arguments.named[n].first != "caller") continue;
      caller = arguments.named[n].second;
      used[n] = true;
    }
    set_variable(*scope_, program_.symbol_of.at("caller"), std::move(caller));
  }
  DictData rest;
  for (size_t n = 0; n < arguments.named.size(); ++n) {
    if (used[n]) continue;
    if (!definition.uses_keywords) {
      fail("macro '{}' takes no argument '{}'", name, arguments.named[n].first);
    }
    rest.set(Value::text(arguments.named[n].first), arguments.named[n].second);
  }
  if (definition.uses_keywords) {
    set_variable(*scope_, program_.symbol_of.at("kwargs"), dict(std::move(rest)));
  }
  const size_t num_parameters = definition.parameters.size();
  std::vector<Value> more;
  for (size_t i = num_parameters; i < arguments.positional.size(); ++i) {
    more.push_back(arguments.positional[i]);
  }
  if (definition.uses_arguments) {
    set_variable(*scope_, program_.symbol_of.at("varargs"), tuple(std::move(more)));
  } else if (!more.empty()) {
    fail("macro '{}' takes at most {} arguments", name, num_parameters);
  }
}

bool Interpreter::passes(const ForStatement& loop, const Value& item) {
  const BlockScope scope(*this);
  assign(loop.target, item);
  return is_condition_true(*loop.condition);
}

std::vector<Value> Interpreter::filtered(const ForStatement& loop, std::vector<Value> items) {
  if (loop.condition == nullptr) return items;
  std::vector<Value> kept;
  for (Value& item : items) {
    if (!passes(loop, item)) continue;
    // As jinja2, whose generator packs the names again.
    kept.push_back(loop.target.is_tuple ? tuple(items_of(item)) : std::move(item));
  }
  return kept;
}

Interpreter::Flow Interpreter::run_for(const ForStatement& loop) {
  return run_for_items(loop, items_of(evaluate(*loop.iterable)), 0);
}

Interpreter::Flow Interpreter::run_for_items(const ForStatement& loop, std::vector<Value> items,
                                             int64_t depth0) {
  Loop* state = nullptr;
  if (loop.uses_loop) {
    // What `loop` says of items to come needs them chosen; without it each is tested in its turn.
    items = filtered(loop, std::move(items));
    budget_.charge_bytes(sizeof(Loop) + items.size() * sizeof(Value));
    loops_.push_back(std::make_unique<Loop>());
    state = loops_.back().get();
    state->statement = &loop;
    state->scope = scope_;
    state->depth0 = depth0;
    state->items = items;
    for (Scope* scope = scope_; loop.is_recursive && scope != nullptr; scope = scope->parent) {
      scope->is_captured = true;
    }
  }
  bool is_complete = false;
  {
    BlockScope scope(*this);
    for (size_t i = 0; i < items.size(); ++i) {
      budget_.charge_steps(1);
      if (state == nullptr && loop.condition != nullptr && !passes(loop, items[i])) continue;
      scope.clear();
      assign(loop.target, items[i]);
      if (state != nullptr) {
        state->index0 = i;
        set_variable(*scope_, program_.symbol_of.at("loop"), Value::loop(state));
      }
      const Flow flow = run_block(loop.body);
      if (flow == Flow::kBreak) break;
      // As jinja2: a round that ends by break or continue does not count for the else block.
      is_complete = is_complete || flow == Flow::kNext;
    }
  }
  if (is_complete || loop.otherwise.empty()) return Flow::kNext;
  const BlockScope scope(*this);
  return run_block(loop.otherwise);
}

Value Interpreter::call_loop(const Loop& loop, const CallArguments& arguments) {
  if (!loop.statement->is_recursive) fail("the loop is not marked 'recursive'");
  if (arguments.positional.size() != 1 || !arguments.named.empty()) {
    fail("loop() takes one argument");
  }
  std::string out;
  std::string* const outer = std::exchange(out_, &out);
  Scope* const outer_scope = std::exchange(scope_, loop.scope);
  run_for_items(*loop.statement, items_of(arguments.positional[0]), loop.depth0 + 1);
  scope_ = outer_scope;
  out_ = outer;
  return text(std::move(out));
}

Value Interpreter::loop_attribute(Loop& loop, std::string_view name) {
  const auto length = static_cast<int64_t>(loop.items.size());
  const auto index0 = static_cast<int64_t>(loop.index0);
  if (name == "index") return Value::integer(index0 + 1);
  if (name == "index0") return Value::integer(index0);
  if (name == "revindex") return Value::integer(length - index0);
  if (name == "revindex0") return Value::integer(length - index0 - 1);
  if (name == "first") return Value::boolean(index0 == 0);
  if (name == "last") return Value::boolean(index0 + 1 == length);
  if (name == "length") return Value::integer(length);
  if (name == "depth") return Value::integer(loop.depth0 + 1);
  if (name == "depth0") return Value::integer(loop.depth0);
  if (name == "previtem") {
    return index0 == 0 ? Value::undefined("there is no previous item")
                       : loop.items[loop.index0 - 1];
  }
  if (name == "nextitem") {
    return index0 + 1 == length ? Value::undefined("there is no next item")
                                : loop.items[loop.index0 + 1];
  }
  const auto method = [&](Callable callable, std::string_view method_name) {
    return Value::function({callable, Value::loop(&loop), method_name});
  };
  if (name == "cycle") {
    return method(
        [](Interpreter& run, const Value& self, const CallArguments& arguments) -> Value {
          if (arguments.positional.empty()) run.fail("loop.cycle() needs values");
          return arguments.positional[self.as_loop().index0 % arguments.positional.size()];
        },
        "cycle");
  }
  if (name == "changed") {
    return method(
        [](Interpreter& run, const Value& self, const CallArguments& arguments) -> Value {
          std::optional<Value>& last = self.as_loop().last_changed;
          Value values = run.tuple(arguments.positional);
          if (last && equal(run.budget(), *last, values)) return Value::boolean(false);
          last = std::move(values);
          return Value::boolean(true);
        },
        "changed");
  }
  return Value::undefined(fmt::format("'loop' has no attribute '{}'", name));
}

}  // namespace comet::text::jinja
