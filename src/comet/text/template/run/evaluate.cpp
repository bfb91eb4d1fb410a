// Expressions.
#include "comet/text/template/run/access.h"
#include "comet/text/template/run/filters.h"
#include "comet/text/template/run/interpreter.h"
#include "comet/text/template/run/operators.h"
#include "comet/text/template/value/text.h"

namespace comet::text::jinja {

Value Interpreter::evaluate(const Expression& expression) {
  const Budget::Level level(budget_);
  budget_.charge_steps(1);
  switch (expression.kind) {
    case ExpressionKind::kConstant:
      return expression.value;
    case ExpressionKind::kName:
      return evaluate_name(expression);
    case ExpressionKind::kList:
      return list(evaluate_parts(expression));
    case ExpressionKind::kTuple:
      return tuple(evaluate_parts(expression));
    case ExpressionKind::kDict:
      return evaluate_dict(expression);
    case ExpressionKind::kAttribute: {
      const Value object = evaluate(*expression.parts[0]);
      budget_.set_line(expression.line);
      return attribute(object, expression.name);
    }
    case ExpressionKind::kSubscript: {
      const Value object = evaluate(*expression.parts[0]);
      const Value key = evaluate(*expression.parts[1]);
      budget_.set_line(expression.line);
      return item(object, key);
    }
    case ExpressionKind::kSlice:
      return evaluate_slice(expression);
    case ExpressionKind::kCall: {
      const Value callee = evaluate(*expression.parts[0]);
      const CallArguments arguments = evaluate_arguments(*expression.arguments);
      budget_.set_line(expression.line);
      return call(callee, arguments);
    }
    case ExpressionKind::kFilter:
      return evaluate_filter(expression, nullptr);
    case ExpressionKind::kTest: {
      const Value input = evaluate(*expression.parts[0]);
      const CallArguments arguments = evaluate_arguments(*expression.arguments);
      budget_.set_line(expression.line);
      return Value::boolean(apply_test(expression.name, input, arguments));
    }
    case ExpressionKind::kNot:
      return Value::boolean(!is_condition_true(*expression.parts[0]));
    case ExpressionKind::kNegative:
    case ExpressionKind::kPositive:
      return signed_value(*this, evaluate(*expression.parts[0]),
                          expression.kind == ExpressionKind::kNegative);
    case ExpressionKind::kAnd:
    case ExpressionKind::kOr: {
      Value left = evaluate(*expression.parts[0]);
      const bool decided = is_true(left) == (expression.kind == ExpressionKind::kOr);
      return decided ? left : evaluate(*expression.parts[1]);
    }
    case ExpressionKind::kConditional:
      return evaluate_conditional(expression);
    case ExpressionKind::kConcat:
      return evaluate_concat(expression);
    case ExpressionKind::kArithmetic: {
      const Value left = evaluate(*expression.parts[0]);
      const Value right = evaluate(*expression.parts[1]);
      budget_.set_line(expression.line);
      return arithmetic(*this, expression.op, left, right);
    }
    case ExpressionKind::kComparison:
      return evaluate_comparison(expression);
  }
  return {};
}

Value Interpreter::evaluate_name(const Expression& expression) {
  const Value* found = find_variable(expression.symbol);
  if (found != nullptr) return *found;
  return Value::undefined(fmt::format("'{}' is undefined", expression.name));
}

std::vector<Value> Interpreter::evaluate_parts(const Expression& expression) {
  std::vector<Value> values;
  values.reserve(expression.parts.size());
  for (const ExpressionPtr& part : expression.parts) values.push_back(evaluate(*part));
  return values;
}

Value Interpreter::evaluate_dict(const Expression& expression) {
  DictData data;
  for (size_t i = 0; i < expression.parts.size(); i += 2) {
    Value key = evaluate(*expression.parts[i]);
    if (!is_hashable(key)) fail("a {} cannot be the key of a dict", type_name(key));
    budget_.charge_steps(key.is_string() ? 0 : data.entries.size() / 4);
    data.set(std::move(key), evaluate(*expression.parts[i + 1]));
  }
  return dict(std::move(data));
}

Value Interpreter::evaluate_slice(const Expression& expression) {
  const Value object = evaluate(*expression.parts[0]);
  SliceBounds bounds;
  std::optional<int64_t>* const fields[] = {&bounds.start, &bounds.stop, &bounds.step};
  for (size_t i = 0; i < 3; ++i) {
    const ExpressionPtr& part = expression.parts[i + 1];
    const Value value = part == nullptr ? Value::none() : evaluate(*part);
    require_defined(value);
    if (value.is(Kind::kNone)) continue;
    if (!value.is_integer()) fail("a slice goes by integers, not by a {}", type_name(value));
    *fields[i] = value.as_integer();
  }
  budget_.set_line(expression.line);
  return slice(*this, object, bounds);
}

Value Interpreter::evaluate_conditional(const Expression& expression) {
  if (is_condition_true(*expression.parts[1])) return evaluate(*expression.parts[0]);
  if (expression.parts[2] != nullptr) return evaluate(*expression.parts[2]);
  return Value::undefined(fmt::format(
      "the condition of the 'if' in line {} is false and it has no 'else'", expression.line));
}

Value Interpreter::evaluate_concat(const Expression& expression) {
  std::string joined;
  for (const Value& part : evaluate_parts(expression)) {
    if (part.is_string()) {
      budget_.charge_bytes(part.as_text().size());
      joined += part.as_text();
    } else {
      joined += text_of(part);
    }
  }
  return text(std::move(joined));
}

Value Interpreter::evaluate_comparison(const Expression& expression) {
  Value left = evaluate(*expression.parts[0]);
  for (size_t i = 0; i < expression.ops.size(); ++i) {
    Value right = evaluate(*expression.parts[i + 1]);
    budget_.set_line(expression.line);
    if (!compare(*this, expression.ops[i], left, right)) return Value::boolean(false);
    left = std::move(right);
  }
  return Value::boolean(true);
}

Value Interpreter::evaluate_filter(const Expression& expression, const Value* block_input) {
  const Budget::Level level(budget_);
  const ExpressionPtr& part = expression.parts[0];
  Value input;
  if (part == nullptr) {
    input = *block_input;
  } else if (part->kind == ExpressionKind::kFilter) {
    input = evaluate_filter(*part, block_input);
  } else {
    input = evaluate(*part);
  }
  const CallArguments arguments = evaluate_arguments(*expression.arguments);
  budget_.set_line(expression.line);
  return apply_filter(expression.name, input, arguments);
}

CallArguments Interpreter::evaluate_arguments(const Arguments& arguments) {
  CallArguments values;
  for (const ExpressionPtr& each : arguments.positional) {
    values.positional.push_back(evaluate(*each));
  }
  for (const auto& [name, each] : arguments.named) values.named.emplace_back(name, evaluate(*each));
  if (arguments.star != nullptr) {
    for (Value& item : items_of(evaluate(*arguments.star))) {
      values.positional.push_back(std::move(item));
    }
  }
  if (arguments.double_star != nullptr) {
    const Value dict = evaluate(*arguments.double_star);
    require_defined(dict);
    if (!dict.is_dict()) fail("a {} cannot stand behind **", type_name(dict));
    for (const auto& [key, value] : dict.as_dict().entries) {
      if (!key.is_string()) fail("names of arguments are text, not a {}", type_name(key));
      for (const auto& [name, other] : values.named) {
        if (name == key.as_text()) fail("argument '{}' is repeated", name);
      }
      values.named.emplace_back(key.as_text(), value);
      budget_.charge_steps(values.named.size() / 8 + 1);
    }
  }
  return values;
}

Value Interpreter::apply_filter(std::string_view name, const Value& input,
                                const CallArguments& arguments) {
  budget_.charge_steps(1);
  const Callable filter = find_filter(name);
  if (filter == nullptr) fail("no filter named '{}'", name);
  return filter(*this, input, arguments);
}

bool Interpreter::apply_test(std::string_view name, const Value& input,
                             const CallArguments& arguments) {
  budget_.charge_steps(1);
  const Callable test = find_test(name);
  if (test == nullptr) fail("no test named '{}'", name);
  return is_true(test(*this, input, arguments));
}

}  // namespace comet::text::jinja
