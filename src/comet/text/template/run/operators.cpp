#include "comet/text/template/run/operators.h"

#include <algorithm>
#include <cmath>

#include "comet/text/template/value/characters.h"
#include "comet/text/template/value/compare.h"
#include "comet/text/template/value/text.h"

namespace comet::text::jinja {
namespace {

[[noreturn]] void fail_overflow(Interpreter& run) {
  run.fail("an integer does not fit in 64 bits");
}

Value power_of_integers(Interpreter& run, int64_t base, int64_t exponent) {
  if (exponent < 0) {
    if (base == 0) run.fail("0 cannot be raised to a negative power");
    return Value::real(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  int64_t result = 1;
  for (; exponent > 0; exponent >>= 1) {
    if ((exponent & 1) != 0 && __builtin_mul_overflow(result, base, &result)) fail_overflow(run);
    if (exponent > 1 && __builtin_mul_overflow(base, base, &base)) fail_overflow(run);
  }
  return Value::integer(result);
}

Value of_integers(Interpreter& run, Operator op, int64_t a, int64_t b) {
  int64_t result = 0;
  bool overflows = false;
  switch (op) {
    case Operator::kAdd:
      overflows = __builtin_add_overflow(a, b, &result);
      break;
    case Operator::kSubtract:
      overflows = __builtin_sub_overflow(a, b, &result);
      break;
    case Operator::kMultiply:
      overflows = __builtin_mul_overflow(a, b, &result);
      break;
    case Operator::kPower:
      return power_of_integers(run, a, b);
    default:
      if (b == 0) run.fail("division by zero");
      if (op == Operator::kDivide) {
        return Value::real(static_cast<double>(a) / static_cast<double>(b));
      }
      if (b == -1) {  // INT64_MIN / −1 traps
        if (op == Operator::kModulo) return Value::integer(0);
        overflows = __builtin_sub_overflow(int64_t{0}, a, &result);
        break;
      }
      result = op == Operator::kModulo ? a % b : a / b;
      if (a % b != 0 && (a < 0) != (b < 0)) result += op == Operator::kModulo ? b : -1;
  }
  if (overflows) fail_overflow(run);
  return Value::integer(result);
}

/// Python's float.__divmod__.
std::pair<double, double> divided(double a, double b) {
  double rest = std::fmod(a, b);
  double quotient = (a - rest) / b;
  if (rest != 0) {
    if ((b < 0) != (rest < 0)) {
      rest += b;
      quotient -= 1;
    }
  } else {
    rest = std::copysign(0.0, b);
  }
  if (quotient == 0) return {std::copysign(0.0, a / b), rest};
  double floored = std::floor(quotient);
  if (quotient - floored > 0.5) floored += 1;
  return {floored, rest};
}

Value of_doubles(Interpreter& run, Operator op, double a, double b) {
  switch (op) {
    case Operator::kAdd:
      return Value::real(a + b);
    case Operator::kSubtract:
      return Value::real(a - b);
    case Operator::kMultiply:
      return Value::real(a * b);
    case Operator::kPower: {
      if (a == 0 && b < 0) run.fail("0 cannot be raised to a negative power");
      const double result = std::pow(a, b);
      const bool finite = std::isfinite(a) && std::isfinite(b);
      if (finite && !std::isfinite(result)) run.fail("the power is no real number of this range");
      return Value::real(result);
    }
    default:
      if (b == 0) run.fail("division by zero");
      if (op == Operator::kDivide) return Value::real(a / b);
      return Value::real(op == Operator::kModulo ? divided(a, b).second : divided(a, b).first);
  }
}

Value repeated(Interpreter& run, const Value& value, int64_t times) {
  const auto count = static_cast<size_t>(std::max<int64_t>(times, 0));
  if (value.is_string()) {
    const std::string& text = value.as_text();
    if (text.empty()) return value;
    // Before it is allocated; the product cannot wrap.
    if (count > run.budget().limits().max_memory_bytes / text.size()) {
      run.fail("the text repeated {} times is too long", times);
    }
    run.budget().charge_bytes(text.size() * count);
    std::string out;
    out.reserve(text.size() * count);
    for (size_t i = 0; i < count; ++i) out += text;
    return Value::text(std::move(out));
  }
  SequenceData data;
  const size_t num_items = value.items().size();
  if (num_items > 0) {
    if (count > run.budget().limits().max_memory_bytes / (num_items * sizeof(Value))) {
      run.fail("the list repeated {} times is too long", times);
    }
    run.budget().charge_bytes(num_items * count * sizeof(Value));
    for (size_t i = 0; i < count; ++i) {
      data.items.insert(data.items.end(), value.items().begin(), value.items().end());
    }
  }
  return run.sequence(value.kind(), std::move(data));
}

bool can_repeat(const Value& value) {
  return value.is_string() || value.is(Kind::kList) || value.is(Kind::kTuple);
}

Value joined(Interpreter& run, const Value& a, const Value& b) {
  if (a.is_markup() || b.is_markup()) {
    const std::string left = a.is_markup() ? a.as_text() : html_escaped(a.as_text());
    const std::string right = b.is_markup() ? b.as_text() : html_escaped(b.as_text());
    run.budget().charge_bytes(left.size() + right.size());
    return Value::markup(left + right);
  }
  if (a.is_string()) return run.text(a.as_text() + b.as_text());
  SequenceData data{.items = a.items()};
  data.items.insert(data.items.end(), b.items().begin(), b.items().end());
  return run.sequence(a.kind(), std::move(data));
}

std::string_view symbol_of(Operator op) {
  constexpr std::string_view kSymbols[] = {
      "+", "-", "*", "/", "//", "%", "**", "==", "!=", "<", "<=", ">", ">=", "in", "not in"};
  return kSymbols[static_cast<size_t>(op)];
}

}  // namespace

Value arithmetic(Interpreter& run, Operator op, const Value& a, const Value& b) {
  if (op == Operator::kModulo && a.is_string()) return format_percent(run, a.as_text(), b);
  run.require_defined(a);
  run.require_defined(b);
  if (a.is_number() && b.is_number()) {
    if (a.is_integer() && b.is_integer()) {
      return of_integers(run, op, a.as_integer(), b.as_integer());
    }
    return of_doubles(run, op, a.as_double(), b.as_double());
  }
  if (op == Operator::kAdd && a.kind() == b.kind() && can_repeat(a)) return joined(run, a, b);
  if (op == Operator::kMultiply && can_repeat(a) && b.is_integer()) {
    return repeated(run, a, b.as_integer());
  }
  if (op == Operator::kMultiply && a.is_integer() && can_repeat(b)) {
    return repeated(run, b, a.as_integer());
  }
  run.fail("'{}' does not work for {} and {}", symbol_of(op), type_name(a), type_name(b));
}

bool compare(Interpreter& run, Operator op, const Value& a, const Value& b) {
  switch (op) {
    case Operator::kEqual:
      return equal(run.budget(), a, b);
    case Operator::kNotEqual:
      return !equal(run.budget(), a, b);
    case Operator::kIn:
      return contains(run, b, a);
    case Operator::kNotIn:
      return !contains(run, b, a);
    default:
      break;
  }
  run.require_defined(a);
  run.require_defined(b);
  const std::optional<int> result = order(run.budget(), a, b);
  if (!result) {
    run.fail("'{}' does not work for {} and {}", symbol_of(op), type_name(a), type_name(b));
  }
  switch (op) {
    case Operator::kLess:
      return *result == -1;
    case Operator::kLessEqual:
      return *result == -1 || *result == 0;
    case Operator::kGreater:
      return *result == 1;
    default:
      return *result == 1 || *result == 0;
  }
}

bool contains(Interpreter& run, const Value& container, const Value& value) {
  if (container.is_string()) {
    if (!value.is_string()) run.fail("only text is in a text, not a {}", type_name(value));
    run.budget().charge_scan(container.as_text().size() + value.as_text().size());
    return find_bytes(container.as_text(), value.as_text()) != std::string_view::npos;
  }
  if (container.is_dict()) {
    if (!is_hashable(value)) run.fail("a {} is never the key of a dict", type_name(value));
    return container.as_dict().find(value) != nullptr;
  }
  if (container.is_undefined()) return false;
  if (!container.is_sequence()) run.fail("'in' does not work for a {}", type_name(container));
  const SequenceData& data = container.as_sequence();
  const bool is_iterator = container.is(Kind::kIterator);
  for (size_t i = is_iterator ? data.next_idx : 0; i < data.items.size(); ++i) {
    if (is_iterator) data.next_idx = i + 1;
    if (data.items[i].same_as(value) || equal(run.budget(), data.items[i], value)) return true;
  }
  return false;
}

Value signed_value(Interpreter& run, const Value& value, bool is_negative) {
  run.require_defined(value);
  if (value.is(Kind::kFloat)) {
    return Value::real(is_negative ? -value.as_double() : value.as_double());
  }
  if (!value.is_integer()) run.fail("a {} has no sign", type_name(value));
  return of_integers(run, is_negative ? Operator::kSubtract : Operator::kAdd, 0,
                     value.as_integer());
}

}  // namespace comet::text::jinja
