#include "comet/text/template/value/value.h"

#include <algorithm>

#include "comet/text/template/value/characters.h"
#include "comet/text/template/value/compare.h"
#include "comet/text/template/value/function.h"

namespace comet::text::jinja {

Value Value::undefined(std::string why) {
  Value value;
  value.data_ = std::make_shared<const std::string>(std::move(why));
  return value;
}

Value Value::none() {
  Value value;
  value.kind_ = Kind::kNone;
  return value;
}

Value Value::boolean(bool truth) {
  Value value;
  value.kind_ = Kind::kBool;
  value.scalar_.integer = truth ? 1 : 0;
  return value;
}

Value Value::integer(int64_t number) {
  Value value;
  value.kind_ = Kind::kInt;
  value.scalar_.integer = number;
  return value;
}

Value Value::real(double number) {
  Value value;
  value.kind_ = Kind::kFloat;
  value.scalar_.real = number;
  return value;
}

Value Value::text(std::string text) {
  Value value;
  value.kind_ = Kind::kString;
  value.data_ = std::make_shared<const std::string>(std::move(text));
  return value;
}

Value Value::markup(std::string text) {
  Value value = Value::text(std::move(text));
  value.scalar_.integer = 1;
  return value;
}

Value Value::sequence(Kind kind, SequenceData data) {
  Value value;
  value.kind_ = kind;
  data.depth = 1;
  for (const Value& item : data.items) data.depth = std::max(data.depth, item.depth() + 1);
  value.data_ = std::make_shared<const SequenceData>(std::move(data));
  return value;
}

Value Value::list(std::vector<Value> items) {
  return sequence(Kind::kList, {.items = std::move(items)});
}

Value Value::tuple(std::vector<Value> items) {
  return sequence(Kind::kTuple, {.items = std::move(items)});
}

Value Value::dict(DictData data) {
  Value value;
  value.kind_ = Kind::kDict;
  data.depth = 1;
  for (const auto& [key, item] : data.entries) {
    data.depth = std::max({data.depth, item.depth() + 1, key.depth() + 1});
  }
  value.data_ = std::make_shared<const DictData>(std::move(data));
  return value;
}

Value Value::function(FunctionData data) {
  Value value;
  value.kind_ = Kind::kFunction;
  value.data_ = std::make_shared<const FunctionData>(std::move(data));
  return value;
}

Value Value::macro(Macro* macro) {
  Value value;
  value.kind_ = Kind::kMacro;
  value.scalar_.owned = macro;
  return value;
}

Value Value::name_space(Namespace* name_space) {
  Value value;
  value.kind_ = Kind::kNamespace;
  value.scalar_.owned = name_space;
  return value;
}

Value Value::loop(Loop* loop) {
  Value value;
  value.kind_ = Kind::kLoop;
  value.scalar_.owned = loop;
  return value;
}

const std::string& Value::as_text() const { return *static_cast<const std::string*>(data_.get()); }

const SequenceData& Value::as_sequence() const {
  return *static_cast<const SequenceData*>(data_.get());
}

const std::vector<Value>& Value::items() const { return as_sequence().items; }

const DictData& Value::as_dict() const { return *static_cast<const DictData*>(data_.get()); }

const FunctionData& Value::as_function() const {
  return *static_cast<const FunctionData*>(data_.get());
}

std::string Value::why_undefined() const {
  return data_ == nullptr ? "the value is undefined" : as_text();
}

int Value::depth() const {
  if (is_sequence()) return as_sequence().depth;
  if (is_dict()) return as_dict().depth;
  if (is(Kind::kFunction)) return as_function().self.depth() + 1;
  return 0;
}

bool Value::same_as(const Value& other) const {
  if (kind_ != other.kind_) return false;
  if (data_ != nullptr || other.data_ != nullptr) return data_ == other.data_;
  if (is(Kind::kFloat)) return scalar_.real == other.scalar_.real;
  return scalar_.integer == other.scalar_.integer;
}

size_t DictData::idx_of(const Value& key) const {
  if (key.is_string()) {
    const auto at = text_keys_.find(key.as_text());
    return at == text_keys_.end() ? kNone : at->second;
  }
  if (text_keys_.size() == entries.size()) return kNone;
  for (size_t i = 0; i < entries.size(); ++i) {
    if (!entries[i].first.is_string() && equal_scalars(entries[i].first, key)) return i;
  }
  return kNone;
}

void DictData::set(Value key, Value value) {
  const size_t found = idx_of(key);
  if (found != kNone) {
    entries[found].second = std::move(value);
    return;
  }
  if (key.is_string()) text_keys_.emplace(key.as_text(), entries.size());
  entries.emplace_back(std::move(key), std::move(value));
}

const Value* DictData::find(std::string_view key) const {
  const auto at = text_keys_.find(key);
  return at == text_keys_.end() ? nullptr : &entries[at->second].second;
}

const Value* DictData::find(const Value& key) const {
  const size_t found = idx_of(key);
  return found == kNone ? nullptr : &entries[found].second;
}

bool is_true(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
    case Kind::kNone:
      return false;
    case Kind::kBool:
    case Kind::kInt:
      return value.as_integer() != 0;
    case Kind::kFloat:
      return value.as_double() != 0;
    case Kind::kString:
      return !value.as_text().empty();
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kRange:
    case Kind::kView:
      return !value.items().empty();
    case Kind::kDict:
      return !value.as_dict().entries.empty();
    default:
      return true;
  }
}

std::string_view type_name(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return "Undefined";
    case Kind::kNone:
      return "NoneType";
    case Kind::kBool:
      return "bool";
    case Kind::kInt:
      return "int";
    case Kind::kFloat:
      return "float";
    case Kind::kString:
      return "str";
    case Kind::kList:
      return "list";
    case Kind::kTuple:
      return "tuple";
    case Kind::kRange:
      return "range";
    case Kind::kView:
      return value.as_sequence().name;
    case Kind::kIterator:
      return "generator";
    case Kind::kDict:
      return "dict";
    case Kind::kFunction:
      return "function";
    case Kind::kMacro:
      return "Macro";
    case Kind::kNamespace:
      return "Namespace";
    case Kind::kLoop:
      return "LoopContext";
  }
  return "?";
}

bool is_hashable(const Value& value) {
  return !value.is(Kind::kList) && !value.is(Kind::kDict) && !value.is(Kind::kView) &&
         !value.is(Kind::kTuple);
}

bool has_length(const Value& value) {
  return value.is_undefined() || value.is_string() || value.is_dict() ||
         (value.is_sequence() && !value.is(Kind::kIterator));
}

int64_t length(const Value& value) {
  if (value.is_string()) return static_cast<int64_t>(num_characters(value.as_text()));
  if (value.is_dict()) return static_cast<int64_t>(value.as_dict().entries.size());
  if (value.is_sequence()) return static_cast<int64_t>(value.items().size());
  return 0;
}

}  // namespace comet::text::jinja
