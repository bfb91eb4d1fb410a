#include "comet/text/template/run/builtins.h"

#include <algorithm>

#include "comet/text/template/run/interpreter.h"
#include "comet/text/unicode/utf8.h"

namespace comet::text::jinja {
namespace {

constexpr int64_t kMaxRange = 100'000;  // as jinja2's sandbox

Value range(Interpreter& run, const Value& /*self*/, const CallArguments& arguments) {
  const std::vector<Value>& given = arguments.positional;
  if (given.empty() || given.size() > 3 || !arguments.named.empty()) {
    run.fail("range() takes one to three integers");
  }
  for (const Value& each : given) {
    run.require_defined(each);
    if (!each.is_integer()) run.fail("range() takes integers, not a {}", type_name(each));
  }
  SequenceData data;
  data.start = given.size() > 1 ? given[0].as_integer() : 0;
  data.stop = given[given.size() > 1 ? 1 : 0].as_integer();
  data.step = given.size() > 2 ? given[2].as_integer() : 1;
  if (data.step == 0) run.fail("the step of range() cannot be 0");
  // In 128 bits: the span of two 64-bit numbers does not fit in 64.
  const __int128 span = data.step > 0 ? static_cast<__int128>(data.stop) - data.start
                                      : static_cast<__int128>(data.start) - data.stop;
  const __int128 stride = data.step > 0 ? data.step : -static_cast<__int128>(data.step);
  const __int128 count = span <= 0 ? 0 : (span + stride - 1) / stride;
  if (count > kMaxRange) run.fail("range() makes at most {} numbers", kMaxRange);
  for (__int128 i = 0; i < count; ++i) {
    data.items.push_back(Value::integer(static_cast<int64_t>(data.start + i * data.step)));
  }
  return run.sequence(Kind::kRange, std::move(data));
}

/// dict(mapping or pairs, name=value, …), for dict() and namespace().
DictData dict_data(Interpreter& run, std::string_view name, const CallArguments& arguments) {
  DictData data;
  if (arguments.positional.size() > 1) run.fail("{}() takes one dict and names", name);
  if (!arguments.positional.empty()) {
    const Value& source = arguments.positional[0];
    if (source.is_dict()) {
      data = source.as_dict();
      run.budget().charge_bytes(data.entries.size() * 4 * sizeof(Value));
    } else {
      for (const Value& pair : run.items_of(source)) {
        std::vector<Value> both = run.items_of(pair);
        if (both.size() != 2) run.fail("{}() takes pairs of a key and a value", name);
        if (!is_hashable(both[0])) run.fail("a {} cannot be the key of a dict", type_name(both[0]));
        run.budget().charge_steps(both[0].is_string() ? 1 : data.entries.size() / 4 + 1);
        data.set(std::move(both[0]), std::move(both[1]));
      }
    }
  }
  for (const auto& [key, value] : arguments.named) data.set(Value::text(key), value);
  return data;
}

Value dict(Interpreter& run, const Value& /*self*/, const CallArguments& arguments) {
  return run.dict(dict_data(run, "dict", arguments));
}

Value make_namespace(Interpreter& run, const Value& /*self*/, const CallArguments& arguments) {
  return run.name_space(dict_data(run, "namespace", arguments));
}

Value raise_exception(Interpreter& run, const Value& /*self*/, const CallArguments& arguments) {
  const Bound bound(run, "raise_exception", arguments, {"message"}, 1);
  run.fail("the template refuses the messages: {}", run.text_of(bound.at(0)));
}

Value strftime_now(Interpreter& run, const Value& /*self*/, const CallArguments& arguments) {
  const Bound bound(run, "strftime_now", arguments, {"format"}, 1);
  constexpr size_t kMaxFormatBytes = 256;
  constexpr size_t kMaxBytes = 8192;
  const std::string& format = bound.text(0);
  if (format.size() > kMaxFormatBytes) {
    run.fail("strftime_now(): the format has more than {} bytes", kMaxFormatBytes);
  }
  if (format.empty()) return Value::text({});
  const std::tm now = run.local_time();
  char buffer[kMaxBytes];
  const size_t num_bytes = std::strftime(buffer, sizeof buffer, format.c_str(), &now);
  return run.text(replace_invalid_utf8({buffer, num_bytes}));
}

constexpr BuiltinFunction kFunctions[] = {{"range", range},
                                          {"dict", dict},
                                          {"namespace", make_namespace},
                                          {"raise_exception", raise_exception},
                                          {"strftime_now", strftime_now}};

}  // namespace

std::span<const BuiltinFunction> builtin_functions() { return kFunctions; }

Bound::Bound(Interpreter& run, std::string_view function, const CallArguments& arguments,
             std::initializer_list<std::string_view> parameters, size_t num_required)
    : run_(run), function_(function), values_(parameters.size(), nullptr) {
  if (arguments.positional.size() > parameters.size()) {
    run.fail("{} takes at most {} arguments, not {}", function, parameters.size(),
             arguments.positional.size());
  }
  for (size_t i = 0; i < arguments.positional.size(); ++i) values_[i] = &arguments.positional[i];
  for (const auto& [name, value] : arguments.named) {
    const auto* const at = std::find(parameters.begin(), parameters.end(), name);
    if (at == parameters.end()) run.fail("{} takes no argument '{}'", function, name);
    const Value*& slot = values_[static_cast<size_t>(at - parameters.begin())];
    if (slot != nullptr) run.fail("{} got argument '{}' twice", function, name);
    slot = &value;
  }
  for (size_t i = 0; i < num_required; ++i) {
    if (values_[i] == nullptr) {
      run.fail("{} needs the argument '{}'", function, *(parameters.begin() + i));
    }
  }
}

bool Bound::truth(size_t idx, bool fallback) const {
  return values_[idx] == nullptr ? fallback : is_true(*values_[idx]);
}

int64_t Bound::integer(size_t idx, int64_t fallback) const {
  if (values_[idx] == nullptr) return fallback;
  run_.require_defined(*values_[idx]);
  if (!values_[idx]->is_integer()) {
    run_.fail("{} takes an integer, not a {}", function_, type_name(*values_[idx]));
  }
  return values_[idx]->as_integer();
}

const std::string& Bound::text(size_t idx) const {
  run_.require_defined(*values_[idx]);
  if (!values_[idx]->is_string()) {
    run_.fail("{} takes a text, not a {}", function_, type_name(*values_[idx]));
  }
  return values_[idx]->as_text();
}

}  // namespace comet::text::jinja
