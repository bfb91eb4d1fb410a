// map, select and reject, which call other filters and tests; and the look-up by name.
#include <algorithm>

#include "comet/text/template/run/filters.h"
#include "comet/text/template/run/interpreter.h"

namespace comet::text::jinja {
namespace {

CallArguments rest_of(const CallArguments& arguments, size_t num_used) {
  CallArguments rest{.positional = {}, .named = arguments.named};
  rest.positional.assign(arguments.positional.begin() + static_cast<std::ptrdiff_t>(num_used),
                         arguments.positional.end());
  return rest;
}

const std::string& name_at(Interpreter& run, const CallArguments& arguments, size_t idx,
                           std::string_view filter) {
  if (arguments.positional.size() <= idx) run.fail("{} needs a name", filter);
  const Value& name = arguments.positional[idx];
  if (!name.is_string()) run.fail("{} takes a name, not a {}", filter, type_name(name));
  return name.as_text();
}

Value map_attribute(Interpreter& run, const Value& input, const CallArguments& arguments) {
  const Value* path = nullptr;
  const Value* fallback = nullptr;
  for (const auto& [name, value] : arguments.named) {
    if (name != "attribute" && name != "default") run.fail("map takes no argument '{}'", name);
    (name == "attribute" ? path : fallback) = &value;
  }
  std::vector<Value> mapped;
  for (const Value& item : run.items_of(input)) {
    Value value = attribute_by_path(run, item, *path);
    const bool has_fallback = fallback != nullptr && !fallback->is(Kind::kNone);
    if (value.is_undefined() && has_fallback) value = *fallback;
    mapped.push_back(std::move(value));
  }
  return run.iterator(std::move(mapped));
}

Value map(Interpreter& run, const Value& input, const CallArguments& arguments) {
  if (!is_true(input)) return run.iterator({});
  const bool has_attribute =
      std::any_of(arguments.named.begin(), arguments.named.end(),
                  [](const auto& each) { return each.first == "attribute"; });
  if (arguments.positional.empty() && has_attribute) return map_attribute(run, input, arguments);
  const std::string& filter = name_at(run, arguments, 0, "map");
  const CallArguments rest = rest_of(arguments, 1);
  std::vector<Value> mapped;
  for (const Value& item : run.items_of(input)) {
    const Budget::Level level(run.budget());
    mapped.push_back(run.apply_filter(filter, item, rest));
  }
  return run.iterator(std::move(mapped));
}

/// `kWanted`: whether a passing item stays; `kByAttribute`: the first argument is a path into it.
template <bool kWanted, bool kByAttribute>
Value select(Interpreter& run, const Value& input, const CallArguments& arguments) {
  if (!is_true(input)) return run.iterator({});
  constexpr size_t kTestIdx = kByAttribute ? 1 : 0;
  const bool has_test = arguments.positional.size() > kTestIdx;
  if (kByAttribute && arguments.positional.empty()) run.fail("selectattr needs an attribute");
  const std::string test = has_test ? name_at(run, arguments, kTestIdx, "select") : std::string();
  const CallArguments rest = has_test ? rest_of(arguments, kTestIdx + 1) : CallArguments{};
  std::vector<Value> kept;
  for (Value& item : run.items_of(input)) {
    const Value looked_at =
        kByAttribute ? attribute_by_path(run, item, arguments.positional[0]) : item;
    const bool passes = has_test ? run.apply_test(test, looked_at, rest) : is_true(looked_at);
    if (passes == kWanted) kept.push_back(std::move(item));
  }
  return run.iterator(std::move(kept));
}

Value attribute(Interpreter& run, const Value& input, const CallArguments& arguments) {
  const Bound bound(run, "attr", arguments, {"name"}, 1);
  run.require_defined(input);
  // Only a real attribute: a dict's key is none.
  if (input.is_dict() && input.as_dict().find(bound.text(0)) != nullptr) {
    return Value::undefined(fmt::format("a dict has no attribute '{}'", bound.text(0)));
  }
  return run.attribute(input, bound.text(0));
}

constexpr NamedFilter kFilters[] = {
    {"attr", attribute},
    {"map", map},
    {"reject", select<false, false>},
    {"rejectattr", select<false, true>},
    {"select", select<true, false>},
    {"selectattr", select<true, true>},
};

}  // namespace

std::span<const NamedFilter> selection_filters() { return kFilters; }

Callable find_filter(std::string_view name) {
  for (const auto filters : {text_filters(), sequence_filters(), selection_filters()}) {
    const auto found = std::find_if(filters.begin(), filters.end(),
                                    [&](const NamedFilter& each) { return each.name == name; });
    if (found != filters.end()) return found->call;
  }
  return nullptr;
}

}  // namespace comet::text::jinja
