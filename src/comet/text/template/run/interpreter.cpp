// Statements, variables and output; expressions are in evaluate.cpp, macros and loops in calls.cpp.
#include "comet/text/template/run/interpreter.h"

#include <algorithm>

#include "comet/text/template/run/block_scope.h"
#include "comet/text/template/run/builtins.h"
#include "comet/text/template/value/text.h"

namespace comet::text::jinja {
namespace {

constexpr int kMaxValueDepth = 200;
constexpr size_t kManyVariables = 16;

}  // namespace

Interpreter::Interpreter(const Program& program, Budget& budget, LocalTime local_time)
    : program_(program), budget_(budget), local_time_(std::move(local_time)) {}

std::string Interpreter::run(const DictData& variables) {
  for (const BuiltinFunction& builtin : builtin_functions()) {
    const auto at = program_.symbol_of.find(std::string(builtin.name));
    if (at == program_.symbol_of.end()) continue;
    set_variable(globals_, at->second, Value::function({builtin.call, {}, builtin.name}));
  }
  for (const auto& [name, value] : variables.entries) {
    const auto at = program_.symbol_of.find(name.as_text());
    if (at != program_.symbol_of.end()) set_variable(globals_, at->second, value);
  }
  scope_ = &globals_;
  std::string out;
  out_ = &out;
  const BlockScope root(*this);
  run_block(program_.body);
  return out;
}

Value Interpreter::text(std::string value) {
  budget_.charge_bytes(value.size() + 2 * sizeof(Value));
  budget_.charge_steps(1);
  return Value::text(std::move(value));
}

Value Interpreter::sequence(Kind kind, SequenceData data) {
  budget_.charge_bytes((data.items.size() + 2) * sizeof(Value));
  budget_.charge_steps(data.items.size() / 4);
  Value value = Value::sequence(kind, std::move(data));
  if (value.depth() > kMaxValueDepth)
    fail("lists are nested deeper than {} levels", kMaxValueDepth);
  return value;
}

Value Interpreter::dict(DictData data) {
  budget_.charge_bytes((data.entries.size() + 2) * 4 * sizeof(Value));
  budget_.charge_steps(data.entries.size() / 4);
  Value value = Value::dict(std::move(data));
  if (value.depth() > kMaxValueDepth)
    fail("dicts are nested deeper than {} levels", kMaxValueDepth);
  return value;
}

Value Interpreter::name_space(DictData attributes) {
  budget_.charge_bytes(sizeof(Namespace) + attributes.entries.size() * 4 * sizeof(Value));
  namespaces_.push_back(std::make_unique<Namespace>(Namespace{std::move(attributes)}));
  return Value::name_space(namespaces_.back().get());
}

std::string Interpreter::text_of(const Value& value) { return jinja::text_of(budget_, value); }

void Interpreter::require_defined(const Value& value) const {
  if (value.is_undefined()) fail("{}", value.why_undefined());
}

void Interpreter::write(std::string_view text) {
  if (out_->size() + text.size() > budget_.limits().max_output_bytes) {
    fail("the template writes more than {} bytes", budget_.limits().max_output_bytes);
  }
  budget_.charge_bytes(text.size());
  *out_ += text;
}

void Interpreter::write_value(const Value& value) {
  if (value.is_string()) {
    write(value.as_text());
  } else if (!value.is_undefined()) {
    write(text_of(value));
  }
}

void Interpreter::set_variable(Scope& scope, int symbol, Value value) {
  const size_t num = scope.variables.size();
  if (num > kManyVariables) budget_.charge_steps(num / kManyVariables);
  for (auto& [own, variable] : scope.variables) {
    if (own == symbol) {
      variable = std::move(value);
      return;
    }
  }
  scope.variables.emplace_back(symbol, std::move(value));
}

const Value* Interpreter::find_variable(int symbol) {
  for (const Scope* scope = scope_; scope != nullptr; scope = scope->parent) {
    const size_t num = scope->variables.size();
    if (num > kManyVariables) budget_.charge_steps(num / kManyVariables);
    for (const auto& [own, variable] : scope->variables) {
      if (own == symbol) return &variable;
    }
  }
  return nullptr;
}

void Interpreter::require_namespaces(const Target& target) {
  for (const Target& part : target.parts) require_namespaces(part);
  if (target.attribute.empty()) return;
  const Value* object = find_variable(target.symbol);
  if (object == nullptr || !object->is(Kind::kNamespace)) {
    fail("'{}' is no namespace: its attribute '{}' cannot be set", target.name, target.attribute);
  }
}

void Interpreter::assign(const Target& target, const Value& value) {
  if (target.is_tuple) {
    const std::vector<Value> items = items_of(value);
    if (items.size() != target.parts.size()) {
      fail("{} values cannot be assigned to {} names", items.size(), target.parts.size());
    }
    for (size_t i = 0; i < items.size(); ++i) assign(target.parts[i], items[i]);
  } else if (target.attribute.empty()) {
    set_variable(*scope_, target.symbol, value);
  } else {
    require_namespaces(target);
    budget_.charge_bytes(2 * sizeof(Value));
    find_variable(target.symbol)
        ->as_namespace()
        .attributes.set(Value::text(target.attribute), value);
  }
}

Interpreter::Flow Interpreter::run_block(const Block& block) {
  for (const StatementPtr& statement : block) {
    const Flow flow = run_statement(*statement);
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::run_statement(const Statement& statement) {
  const Budget::Level level(budget_);
  budget_.set_line(statement.line);
  budget_.charge_steps(1);
  switch (statement.kind) {
    case StatementKind::kText:
      write(statement.text);
      break;
    case StatementKind::kOutput:
      for (const ExpressionPtr& each : statement.expressions) write_value(evaluate(*each));
      break;
    case StatementKind::kIf:
      return run_if(statement);
    case StatementKind::kFor:
      return run_for(*statement.loop);
    case StatementKind::kSet:
      run_set(statement);
      break;
    case StatementKind::kSetBlock:
      return run_set_block(statement);
    case StatementKind::kMacro:
      run_macro(statement);
      break;
    case StatementKind::kCallBlock:
      run_call_block(statement);
      break;
    case StatementKind::kFilterBlock:
      return run_filter_block(statement);
    case StatementKind::kWith:
      return run_with(statement);
    case StatementKind::kScope: {
      const BlockScope scope(*this);
      return run_block(statement.body);
    }
    case StatementKind::kBreak:
      return Flow::kBreak;
    case StatementKind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::run_if(const Statement& statement) {
  for (const Branch& branch : statement.branches) {
    if (branch.condition == nullptr || is_condition_true(*branch.condition)) {
      return run_block(branch.body);
    }
  }
  return Flow::kNext;
}

void Interpreter::run_set(const Statement& statement) {
  require_namespaces(statement.targets[0]);
  assign(statement.targets[0], evaluate(*statement.expressions[0]));
}

Interpreter::Flow Interpreter::capture(const Block& block, std::string& out) {
  std::string* const outer = std::exchange(out_, &out);
  const Flow flow = run_block(block);
  out_ = outer;
  return flow;
}

Interpreter::Flow Interpreter::run_set_block(const Statement& statement) {
  std::string captured;
  Value value;
  {
    const BlockScope scope(*this);
    const Flow flow = capture(statement.body, captured);
    if (flow != Flow::kNext) return flow;
    value = text(std::move(captured));
    const ExpressionPtr& filter = statement.expressions[0];
    if (filter != nullptr) value = evaluate_filter(*filter, &value);
  }
  require_namespaces(statement.targets[0]);
  assign(statement.targets[0], value);
  return Flow::kNext;
}

Interpreter::Flow Interpreter::run_filter_block(const Statement& statement) {
  const BlockScope scope(*this);
  std::string captured;
  const Flow flow = capture(statement.body, captured);
  if (flow != Flow::kNext) return flow;
  const Value input = text(std::move(captured));
  const Value output = evaluate_filter(*statement.expressions[0], &input);
  if (!output.is_string()) fail("a filter block gives a text, not a {}", type_name(output));
  write(output.as_text());
  return Flow::kNext;
}

Interpreter::Flow Interpreter::run_with(const Statement& statement) {
  std::vector<Value> values;
  for (const ExpressionPtr& each : statement.expressions) values.push_back(evaluate(*each));
  const BlockScope scope(*this);
  for (size_t i = 0; i < values.size(); ++i) assign(statement.targets[i], values[i]);
  return run_block(statement.body);
}

}  // namespace comet::text::jinja
