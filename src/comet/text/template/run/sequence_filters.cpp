// Filters over sequences and dicts that call no other filter or test.
#include <algorithm>
#include <unordered_set>

#include "comet/text/template/run/filters.h"
#include "comet/text/template/run/interpreter.h"
#include "comet/text/template/run/operators.h"
#include "comet/text/template/value/characters.h"
#include "comet/text/template/value/compare.h"

namespace comet::text::jinja {
namespace {

/// A text in lower case, as sort and unique compare it unless told otherwise.
Value without_case(Interpreter& run, const Value& value) {
  return value.is_string() ? run.text(lower(value.as_text())) : value;
}

bool is_less(Interpreter& run, const Value& a, const Value& b) {
  return compare(run, Operator::kLess, a, b);
}

struct Keyed {
  Value key;
  Value item;
};

std::vector<Value> sorted(Interpreter& run, std::vector<Keyed> keyed, bool is_reversed) {
  std::stable_sort(keyed.begin(), keyed.end(), [&](const Keyed& a, const Keyed& b) {
    return is_reversed ? is_less(run, b.key, a.key) : is_less(run, a.key, b.key);
  });
  std::vector<Value> items;
  items.reserve(keyed.size());
  for (Keyed& each : keyed) items.push_back(std::move(each.item));
  return items;
}

Value length_of(Interpreter& run, const Value& input, const CallArguments& arguments) {
  const Bound bound(run, "length", arguments, {});
  if (input.is_string()) run.budget().charge_scan(input.as_text().size());
  if (input.is(Kind::kLoop))
    return Value::integer(static_cast<int64_t>(input.as_loop().items.size()));
  if (!has_length(input)) run.fail("a {} has no length", type_name(input));
  return Value::integer(length(input));
}

Value first(Interpreter& run, const Value& input, const CallArguments& arguments) {
  const Bound bound(run, "first", arguments, {});
  if (input.is(Kind::kIterator)) {
    const SequenceData& data = input.as_sequence();
    if (data.next_idx < data.items.size()) return data.items[data.next_idx++];
  } else {
    const std::vector<Value> items = run.items_of(input);
    if (!items.empty()) return items.front();
  }
  return Value::undefined("'first' of a sequence that is empty");
}

Value last(Interpreter& run, const Value& input, const CallArguments& arguments) {
  const Bound bound(run, "last", arguments, {});
  if (input.is(Kind::kIterator)) run.fail("'last' needs a list: put '| list' before it");
  const std::vector<Value> items = run.items_of(input);
  return items.empty() ? Value::undefined("'last' of a sequence that is empty") : items.back();
}

Value list_of(Interpreter& run, const Value& input, const CallArguments& arguments) {
  const Bound bound(run, "list", arguments, {});
  return run.list(run.items_of(input));
}

Value items_of_dict(Interpreter& run, const Value& input, const CallArguments& arguments) {
  const Bound bound(run, "items", arguments, {});
  std::vector<Value> pairs;
  if (!input.is_undefined()) {
    if (!input.is_dict()) run.fail("items takes a dict, not a {}", type_name(input));
    for (const auto& [key, value] : input.as_dict().entries)
      pairs.push_back(run.tuple({key, value}));
  }
  return run.iterator(std::move(pairs));
}

Value dict_sort(Interpreter& run, const Value& input, const CallArguments& arguments) {
  const Bound bound(run, "dictsort", arguments, {"case_sensitive", "by", "reverse"});
  run.require_defined(input);
  if (!input.is_dict()) run.fail("dictsort takes a dict, not a {}", type_name(input));
  const std::string by = bound.find(1) == nullptr ? "key" : bound.text(1);
  if (by != "key" && by != "value") run.fail("dictsort sorts by 'key' or by 'value'");
  std::vector<Keyed> keyed;
  for (const auto& [key, value] : input.as_dict().entries) {
    const Value& chosen = by == "key" ? key : value;
    keyed.push_back(
        {bound.truth(0, false) ? chosen : without_case(run, chosen), run.tuple({key, value})});
  }
  return run.list(sorted(run, std::move(keyed), bound.truth(2, false)));
}

/// The values of the comma-separated paths, as one list to compare.
Value sort_key(Interpreter& run, const Value& item, const Value* attribute,
               bool is_case_sensitive) {
  const auto finished = [&](const Value& value) {
    return is_case_sensitive ? value : without_case(run, value);
  };
  if (attribute == nullptr || attribute->is(Kind::kNone)) return finished(item);
  if (!attribute->is_string()) return finished(attribute_by_path(run, item, *attribute));
  std::vector<Value> keys;
  for (const std::string_view path : split_at(attribute->as_text(), ",", -1, Side::kLeft)) {
    keys.push_back(finished(attribute_by_path(run, item, Value::text(std::string(path)))));
  }
  return run.list(std::move(keys));
}

Value sort(Interpreter& run, const Value& input, const CallArguments& arguments) {
  const Bound bound(run, "sort", arguments, {"reverse", "case_sensitive", "attribute"});
  std::vector<Keyed> keyed;
  for (Value& item : run.items_of(input)) {
    Value key = sort_key(run, item, bound.find(2), bound.truth(1, false));
    keyed.push_back({std::move(key), std::move(item)});
  }
  return run.list(sorted(run, std::move(keyed), bound.truth(0, false)));
}

Value key_of(Interpreter& run, const Value& item, const Value* attribute, bool is_case_sensitive) {
  const bool has_path = attribute != nullptr && !attribute->is(Kind::kNone);
  const Value value = has_path ? attribute_by_path(run, item, *attribute) : item;
  return is_case_sensitive ? value : without_case(run, value);
}

Value unique(Interpreter& run, const Value& input, const CallArguments& arguments) {
  const Bound bound(run, "unique", arguments, {"case_sensitive", "attribute"});
  std::unordered_set<std::string> seen_texts;
  std::vector<Value> seen;
  std::vector<Value> kept;
  for (Value& item : run.items_of(input)) {
    const Value key = key_of(run, item, bound.find(1), bound.truth(0, false));
    if (!is_hashable(key)) run.fail("unique: a {} cannot be compared", type_name(key));
    if (key.is_string()) {
      if (seen_texts.insert(key.as_text()).second) kept.push_back(std::move(item));
      continue;
    }
    const auto same = [&](const Value& other) { return equal(run.budget(), other, key); };
    if (std::any_of(seen.begin(), seen.end(), same)) continue;
    seen.push_back(key);
    kept.push_back(std::move(item));
  }
  return run.iterator(std::move(kept));
}

template <bool kLargest>
Value extreme(Interpreter& run, const Value& input, const CallArguments& arguments) {
  const Bound bound(run, kLargest ? "max" : "min", arguments, {"case_sensitive", "attribute"});
  std::vector<Value> items = run.items_of(input);
  if (items.empty()) return Value::undefined("the least or largest of a sequence that is empty");
  size_t best = 0;
  Value best_key = key_of(run, items[0], bound.find(1), bound.truth(0, false));
  for (size_t i = 1; i < items.size(); ++i) {
    Value key = key_of(run, items[i], bound.find(1), bound.truth(0, false));
    if (!(kLargest ? is_less(run, best_key, key) : is_less(run, key, best_key))) continue;
    best = i;
    best_key = std::move(key);
  }
  return items[best];
}

Value sum(Interpreter& run, const Value& input, const CallArguments& arguments) {
  const Bound bound(run, "sum", arguments, {"attribute", "start"});
  Value total = bound.find(1) == nullptr ? Value::integer(0) : bound.at(1);
  if (total.is_string()) run.fail("sum: texts are not summed; use join");
  for (const Value& item : run.items_of(input)) {
    total = arithmetic(run, Operator::kAdd, total, key_of(run, item, bound.find(0), true));
  }
  return total;
}

Value reverse(Interpreter& run, const Value& input, const CallArguments& arguments) {
  const Bound bound(run, "reverse", arguments, {});
  if (input.is_string()) {
    run.budget().charge_steps(input.as_text().size());
    std::string out;
    std::vector<std::string_view> all = characters(input.as_text());
    std::for_each(all.rbegin(), all.rend(), [&](std::string_view each) { out += each; });
    return run.text(std::move(out));
  }
  std::vector<Value> items = run.items_of(input);
  std::reverse(items.begin(), items.end());
  return run.iterator(std::move(items));
}

Value join(Interpreter& run, const Value& input, const CallArguments& arguments) {
  const Bound bound(run, "join", arguments, {"d", "attribute"});
  const std::string separator = bound.find(0) == nullptr ? "" : run.text_of(bound.at(0));
  std::string out;
  bool is_first = true;
  for (const Value& item : run.items_of(input)) {
    run.budget().charge_bytes(separator.size());
    if (!is_first) out += separator;
    is_first = false;
    out += run.text_of(key_of(run, item, bound.find(1), true));
  }
  return run.text(std::move(out));
}

Value batch(Interpreter& run, const Value& input, const CallArguments& arguments) {
  const Bound bound(run, "batch", arguments, {"linecount", "fill_with"}, 1);
  const int64_t size = bound.integer(0, 1);
  if (size < 1 || size > 100'000) run.fail("batch: {} is no size of a batch", size);
  std::vector<Value> batches;
  std::vector<Value> present;
  for (Value& item : run.items_of(input)) {
    if (static_cast<int64_t>(present.size()) == size) {
      batches.push_back(run.list(std::exchange(present, {})));
    }
    present.push_back(std::move(item));
  }
  if (!present.empty()) {
    if (bound.find(1) != nullptr && !bound.at(1).is(Kind::kNone)) {
      present.resize(static_cast<size_t>(size), bound.at(1));
    }
    batches.push_back(run.list(std::move(present)));
  }
  return run.iterator(std::move(batches));
}

Value fallback_for(Interpreter& run, const Value& input, const CallArguments& arguments) {
  const Bound bound(run, "default", arguments, {"default_value", "boolean"});
  const bool is_missing = input.is_undefined() || (bound.truth(1, false) && !is_true(input));
  if (!is_missing) return input;
  return bound.find(0) == nullptr ? Value::text({}) : bound.at(0);
}

constexpr NamedFilter kFilters[] = {{"batch", batch},         {"count", length_of},
                                    {"d", fallback_for},      {"default", fallback_for},
                                    {"dictsort", dict_sort},  {"first", first},
                                    {"items", items_of_dict}, {"join", join},
                                    {"last", last},           {"length", length_of},
                                    {"list", list_of},        {"max", extreme<true>},
                                    {"min", extreme<false>},  {"reverse", reverse},
                                    {"sort", sort},           {"sum", sum},
                                    {"unique", unique}};

}  // namespace

std::span<const NamedFilter> sequence_filters() { return kFilters; }

Value attribute_by_path(Interpreter& run, const Value& item, const Value& path) {
  if (!path.is_string()) return run.item(item, path);
  Value value = item;
  for (const std::string_view part : split_at(path.as_text(), ".", -1, Side::kLeft)) {
    const bool is_number =
        !part.empty() && part.size() < 10 &&
        std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
    value = run.item(value, is_number ? Value::integer(std::stoll(std::string(part)))
                                      : Value::text(std::string(part)));
  }
  return value;
}

}  // namespace comet::text::jinja
