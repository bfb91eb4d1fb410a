#include "comet/text/template/run/access.h"

#include <algorithm>

#include "comet/text/template/value/characters.h"
#include "comet/text/template/value/compare.h"
#include "comet/text/template/value/text.h"

namespace comet::text::jinja {
namespace {

/// The positions that Python's slice visits in `length` items.
struct Walk {
  int64_t start;
  int64_t stop;
  int64_t step;
  int64_t count;
};

Walk walk_of(Interpreter& run, const SliceBounds& bounds, int64_t length) {
  // Larger bounds mean the ends; this keeps the sums below in range.
  constexpr int64_t kFar = int64_t{1} << 40;
  const int64_t step = std::clamp(bounds.step.value_or(1), -kFar, kFar);
  if (step == 0) run.fail("the step of a slice cannot be 0");
  const int64_t low = step > 0 ? 0 : -1;
  const int64_t high = step > 0 ? length : length - 1;
  const auto clipped = [&](int64_t at) {
    at = std::clamp(at, -kFar, kFar);
    return std::clamp(at < 0 ? at + length : at, low, high);
  };
  const int64_t start = bounds.start ? clipped(*bounds.start) : step > 0 ? low : high;
  const int64_t stop = bounds.stop ? clipped(*bounds.stop) : step > 0 ? high : low;
  const int64_t span = step > 0 ? stop - start : start - stop;
  const int64_t stride = std::abs(step);
  return {start, stop, step, span <= 0 ? 0 : (span + stride - 1) / stride};
}

Value slice_text(Interpreter& run, const std::string& text, const SliceBounds& bounds) {
  run.budget().charge_scan(text.size());
  const Walk walk = walk_of(run, bounds, static_cast<int64_t>(num_characters(text)));
  if (walk.count == 0) return Value::text({});
  if (walk.step == 1) {
    const size_t begin = byte_of(text, static_cast<size_t>(walk.start));
    const std::string_view rest = std::string_view(text).substr(begin);
    return run.text(std::string(rest.substr(0, byte_of(rest, static_cast<size_t>(walk.count)))));
  }
  run.budget().charge_bytes(text.size() * sizeof(std::string_view));
  const std::vector<std::string_view> all = characters(text);
  std::string out;
  for (int64_t i = 0; i < walk.count; ++i) {
    out += all[static_cast<size_t>(walk.start + i * walk.step)];
  }
  return run.text(std::move(out));
}

std::string described(const Value& value) { return std::string(type_name(value)) + " object"; }

Value unsafe(const Value& value, std::string_view name) {
  return Value::undefined(
      fmt::format("access to attribute '{}' of a {} is not allowed", name, type_name(value)));
}

/// The item at a position that may count from the end; nullptr outside.
const Value* at_position(const std::vector<Value>& items, int64_t idx) {
  const auto length = static_cast<int64_t>(items.size());
  if (idx < 0) idx += length;
  return idx < 0 || idx >= length ? nullptr : &items[static_cast<size_t>(idx)];
}

Value character_at(Interpreter& run, const Value& value, int64_t idx) {
  const std::string& text = value.as_text();
  run.budget().charge_scan(text.size());
  const auto length = static_cast<int64_t>(num_characters(text));
  if (idx < 0) idx += length;
  if (idx < 0 || idx >= length) return Value::undefined("the text has no character at this index");
  const std::string_view rest =
      std::string_view(text).substr(byte_of(text, static_cast<size_t>(idx)));
  return run.text(std::string(rest.substr(0, byte_of(rest, 1))));
}

Value count_in_items(Interpreter& run, const Value& self, const CallArguments& arguments) {
  const Bound bound(run, "count", arguments, {"value"}, 1);
  int64_t count = 0;
  for (const Value& item : self.items()) {
    if (equal(run.budget(), item, bound.at(0))) ++count;
  }
  return Value::integer(count);
}

Value index_in_items(Interpreter& run, const Value& self, const CallArguments& arguments) {
  const Bound bound(run, "index", arguments, {"value"}, 1);
  for (size_t i = 0; i < self.items().size(); ++i) {
    if (equal(run.budget(), self.items()[i], bound.at(0))) {
      return Value::integer(static_cast<int64_t>(i));
    }
  }
  run.fail("index(): the value is not in the {}", type_name(self));
}

Value copy_of(Interpreter& run, const Value& self, const CallArguments& arguments) {
  const Bound bound(run, "copy", arguments, {});
  return self;  // values never change
}

Value dict_get(Interpreter& run, const Value& self, const CallArguments& arguments) {
  const Bound bound(run, "get", arguments, {"key", "default"}, 1);
  if (!arguments.named.empty()) run.fail("get() takes no named arguments");
  if (!is_hashable(bound.at(0)))
    run.fail("a {} is never the key of a dict", type_name(bound.at(0)));
  const Value* found = self.as_dict().find(bound.at(0));
  if (found != nullptr) return *found;
  return bound.find(1) != nullptr ? bound.at(1) : Value::none();
}

Value view_of(Interpreter& run, const Value& self, std::string_view name) {
  SequenceData data;
  data.name = name;
  for (const auto& [key, value] : self.as_dict().entries) {
    data.items.push_back(name == "dict_keys"     ? key
                         : name == "dict_values" ? value
                                                 : run.tuple({key, value}));
  }
  return run.sequence(Kind::kView, std::move(data));
}

Value dict_keys(Interpreter& run, const Value& self, const CallArguments& arguments) {
  const Bound bound(run, "keys", arguments, {});
  return view_of(run, self, "dict_keys");
}

Value dict_values(Interpreter& run, const Value& self, const CallArguments& arguments) {
  const Bound bound(run, "values", arguments, {});
  return view_of(run, self, "dict_values");
}

Value dict_items(Interpreter& run, const Value& self, const CallArguments& arguments) {
  const Bound bound(run, "items", arguments, {});
  return view_of(run, self, "dict_items");
}

constexpr Method kDictMethods[] = {
    {"clear", nullptr},  {"copy", copy_of},      {"get", dict_get},    {"items", dict_items},
    {"keys", dict_keys}, {"pop", nullptr},       {"popitem", nullptr}, {"setdefault", nullptr},
    {"update", nullptr}, {"values", dict_values}};
constexpr Method kListMethods[] = {
    {"append", nullptr}, {"clear", nullptr},        {"copy", copy_of},   {"count", count_in_items},
    {"extend", nullptr}, {"index", index_in_items}, {"insert", nullptr}, {"pop", nullptr},
    {"remove", nullptr}, {"reverse", nullptr},      {"sort", nullptr}};
constexpr Method kTupleMethods[] = {{"count", count_in_items}, {"index", index_in_items}};

}  // namespace

Value slice(Interpreter& run, const Value& value, const SliceBounds& bounds) {
  run.require_defined(value);
  if (value.is_string()) return slice_text(run, value.as_text(), bounds);
  if (!value.is(Kind::kList) && !value.is(Kind::kTuple) && !value.is(Kind::kRange)) {
    run.fail("a {} has no slices", type_name(value));
  }
  const std::vector<Value>& items = value.items();
  const Walk walk = walk_of(run, bounds, static_cast<int64_t>(items.size()));
  SequenceData data;
  for (int64_t i = 0; i < walk.count; ++i) {
    data.items.push_back(items[static_cast<size_t>(walk.start + i * walk.step)]);
  }
  if (value.is(Kind::kRange)) {
    const SequenceData& range = value.as_sequence();
    data.step = range.step * walk.step;
    data.start = range.start + walk.start * range.step;
    data.stop = range.start + walk.stop * range.step;
  }
  return run.sequence(value.kind(), std::move(data));
}

const Method* find_method(Kind kind, std::string_view name) {
  std::span<const Method> methods;
  if (kind == Kind::kString) return find_string_method(name);
  if (kind == Kind::kDict) methods = kDictMethods;
  if (kind == Kind::kList) methods = kListMethods;
  if (kind == Kind::kTuple || kind == Kind::kRange) methods = kTupleMethods;
  const auto found = std::find_if(methods.begin(), methods.end(),
                                  [&](const Method& each) { return each.name == name; });
  return found == methods.end() ? nullptr : &*found;
}

Value Interpreter::attribute(const Value& value, std::string_view name) {
  require_defined(value);
  if (name.starts_with("__")) return unsafe(value, name);
  if (value.is(Kind::kLoop)) return loop_attribute(value.as_loop(), name);
  if (value.is(Kind::kNamespace)) {
    const Value* found = value.as_namespace().attributes.find(name);
    if (found != nullptr) return name.starts_with('_') ? unsafe(value, name) : *found;
  }
  if (value.is(Kind::kMacro) && name == "name") return text(value.as_macro().name);
  const Method* method = find_method(value.kind(), name);
  if (method != nullptr) {
    if (method->call == nullptr) return unsafe(value, name);
    budget_.charge_bytes(sizeof(FunctionData));
    return Value::function({method->call, value, method->name});
  }
  if (value.is_dict()) {
    const Value* found = value.as_dict().find(name);
    if (found != nullptr) return *found;
  }
  return Value::undefined(fmt::format("'{}' has no attribute '{}'", described(value), name));
}

Value Interpreter::item(const Value& value, const Value& key) {
  require_defined(value);
  if (value.is_dict() && is_hashable(key)) {
    const Value* found = value.as_dict().find(key);
    if (found != nullptr) return *found;
  }
  if (key.is_integer() && value.is_string()) return character_at(*this, value, key.as_integer());
  if (key.is_integer() &&
      (value.is(Kind::kList) || value.is(Kind::kTuple) || value.is(Kind::kRange))) {
    const Value* found = at_position(value.items(), key.as_integer());
    if (found != nullptr) return *found;
  }
  if (key.is_string()) {
    const std::string& name = key.as_text();
    // A dict's key was looked for above; `attribute` would find it a second time, to no harm.
    return attribute(value, name);
  }
  const std::string shown = jinja::repr_of(budget_, key);
  return Value::undefined(
      fmt::format("{} has no element {}", described(value), shown.substr(0, 80)));
}

}  // namespace comet::text::jinja
