// What stands behind 'is': jinja2's tests.
#include <algorithm>

#include "comet/text/template/run/filters.h"
#include "comet/text/template/run/interpreter.h"
#include "comet/text/template/run/operators.h"
#include "comet/text/template/value/characters.h"
#include "comet/text/unicode/utf8.h"

namespace comet::text::jinja {
namespace {

template <Kind... kKinds>
Value is_kind(Interpreter& run, const Value& input, const CallArguments& arguments) {
  const Bound bound(run, "the test", arguments, {});
  return Value::boolean((input.is(kKinds) || ...));
}

template <Operator kOp>
Value compares(Interpreter& run, const Value& input, const CallArguments& arguments) {
  const Bound bound(run, "the test", arguments, {"other"}, 1);
  return Value::boolean(compare(run, kOp, input, bound.at(0)));
}

Value is_in(Interpreter& run, const Value& input, const CallArguments& arguments) {
  const Bound bound(run, "in", arguments, {"seq"}, 1);
  return Value::boolean(contains(run, bound.at(0), input));
}

Value is_defined(Interpreter& run, const Value& input, const CallArguments& arguments) {
  const Bound bound(run, "defined", arguments, {});
  return Value::boolean(!input.is_undefined());
}

template <bool kWanted>
Value is_truth(Interpreter& run, const Value& input, const CallArguments& arguments) {
  const Bound bound(run, "the test", arguments, {});
  return Value::boolean(input.is(Kind::kBool) && input.as_bool() == kWanted);
}

Value is_iterable(Interpreter& run, const Value& input, const CallArguments& arguments) {
  const Bound bound(run, "iterable", arguments, {});
  return Value::boolean(input.is_undefined() || input.is_string() || input.is_dict() ||
                        input.is_sequence() || input.is(Kind::kLoop));
}

Value is_sequence(Interpreter& run, const Value& input, const CallArguments& arguments) {
  const Bound bound(run, "sequence", arguments, {});
  return Value::boolean(has_length(input) && !input.is(Kind::kView));
}

Value is_callable(Interpreter& run, const Value& input, const CallArguments& arguments) {
  const Bound bound(run, "callable", arguments, {});
  return Value::boolean(input.is(Kind::kFunction) || input.is(Kind::kMacro) ||
                        input.is(Kind::kLoop) || input.is_undefined());
}

template <int64_t kRest>
Value has_rest_of_two(Interpreter& run, const Value& input, const CallArguments& arguments) {
  const Bound bound(run, "the test", arguments, {});
  const Value rest = arithmetic(run, Operator::kModulo, input, Value::integer(2));
  return Value::boolean(rest.is_number() && rest.as_double() == kRest);
}

Value is_escaped(Interpreter& run, const Value& input, const CallArguments& arguments) {
  const Bound bound(run, "escaped", arguments, {});
  return Value::boolean(input.is_markup());
}

Value is_divisible(Interpreter& run, const Value& input, const CallArguments& arguments) {
  const Bound bound(run, "divisibleby", arguments, {"num"}, 1);
  const Value rest = arithmetic(run, Operator::kModulo, input, bound.at(0));
  return Value::boolean(rest.is_number() && rest.as_double() == 0);
}

Value is_same(Interpreter& run, const Value& input, const CallArguments& arguments) {
  const Bound bound(run, "sameas", arguments, {"other"}, 1);
  return Value::boolean(input.same_as(bound.at(0)));
}

template <bool (*kWanted)(uint32_t), bool (*kOther)(uint32_t)>
Value has_case(Interpreter& run, const Value& input, const CallArguments& arguments) {
  const Bound bound(run, "the test", arguments, {});
  const std::string text = run.text_of(input);
  run.budget().charge_steps(text.size() / 8);
  bool any = false;
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = code_point_at(text, at);
    if (kOther(c.value)) return Value::boolean(false);
    any = any || kWanted(c.value);
    at += c.num_bytes;
  }
  return Value::boolean(any);
}

template <Callable (*kFind)(std::string_view)>
Value exists(Interpreter& run, const Value& input, const CallArguments& arguments) {
  const Bound bound(run, "the test", arguments, {});
  if (!is_hashable(input) && !input.is(Kind::kTuple)) run.fail("a {} is no name", type_name(input));
  return Value::boolean(input.is_string() && kFind(input.as_text()) != nullptr);
}

constexpr NamedFilter kTests[] = {
    {"!=", compares<Operator::kNotEqual>},
    {"<", compares<Operator::kLess>},
    {"<=", compares<Operator::kLessEqual>},
    {"==", compares<Operator::kEqual>},
    {">", compares<Operator::kGreater>},
    {">=", compares<Operator::kGreaterEqual>},
    {"boolean", is_kind<Kind::kBool>},
    {"callable", is_callable},
    {"defined", is_defined},
    {"divisibleby", is_divisible},
    {"eq", compares<Operator::kEqual>},
    {"equalto", compares<Operator::kEqual>},
    {"escaped", is_escaped},
    {"even", has_rest_of_two<0>},
    {"false", is_truth<false>},
    {"filter", exists<find_filter>},
    {"float", is_kind<Kind::kFloat>},
    {"ge", compares<Operator::kGreaterEqual>},
    {"greaterthan", compares<Operator::kGreater>},
    {"gt", compares<Operator::kGreater>},
    {"in", is_in},
    {"integer", is_kind<Kind::kInt>},
    {"iterable", is_iterable},
    {"le", compares<Operator::kLessEqual>},
    {"lessthan", compares<Operator::kLess>},
    {"lower", has_case<is_lower, is_upper>},
    {"lt", compares<Operator::kLess>},
    {"mapping", is_kind<Kind::kDict>},
    {"ne", compares<Operator::kNotEqual>},
    {"none", is_kind<Kind::kNone>},
    {"number", is_kind<Kind::kInt, Kind::kFloat, Kind::kBool>},
    {"odd", has_rest_of_two<1>},
    {"sameas", is_same},
    {"sequence", is_sequence},
    {"string", is_kind<Kind::kString>},
    {"test", exists<find_test>},
    {"true", is_truth<true>},
    {"undefined", is_kind<Kind::kUndefined>},
    {"upper", has_case<is_upper, is_lower>},
};

}  // namespace

Callable find_test(std::string_view name) {
  const auto* const found = std::lower_bound(
      std::begin(kTests), std::end(kTests), name,
      [](const NamedFilter& each, std::string_view wanted) { return each.name < wanted; });
  return found == std::end(kTests) || found->name != name ? nullptr : found->call;
}

}  // namespace comet::text::jinja
