// A value inside a template, as Python would have it: none, numbers, text, sequences, dicts in
// insertion order, and what only templates have (undefined, namespaces, macros, loops, functions).
// Data is shared and never changed after it was made; namespaces, macros and loops belong to the
// render and are pointed to, so that values form no cycle. Callers: everything in text/template.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace comet::text::jinja {

enum class Kind : uint8_t {
  kUndefined,
  kNone,
  kBool,
  kInt,
  kFloat,
  kString,
  kList,
  kTuple,
  kRange,
  kView,      // what dict.keys(), values() and items() give
  kIterator,  // what map, select, … give: read once
  kDict,
  kFunction,  // built in, or a method of a value
  kMacro,
  kNamespace,
  kLoop,
};

class Value;
struct SequenceData;
struct DictData;
struct FunctionData;
struct Macro;
struct Namespace;
struct Loop;

class Value {
 public:
  Value() = default;  // undefined
  static Value undefined(std::string why);
  static Value none();
  static Value boolean(bool value);
  static Value integer(int64_t value);
  static Value real(double value);
  static Value text(std::string value);
  /// A text that 'safe' or 'escape' has marked: what is added to it is escaped for HTML.
  static Value markup(std::string value);
  /// `kind` is list, tuple, range, view or iterator.
  static Value sequence(Kind kind, SequenceData data);
  static Value list(std::vector<Value> items);
  static Value tuple(std::vector<Value> items);
  static Value dict(DictData data);
  static Value function(FunctionData data);
  static Value macro(Macro* macro);
  static Value name_space(Namespace* name_space);
  static Value loop(Loop* loop);

  [[nodiscard]] Kind kind() const { return kind_; }
  [[nodiscard]] bool is(Kind kind) const { return kind_ == kind; }
  [[nodiscard]] bool is_undefined() const { return kind_ == Kind::kUndefined; }
  [[nodiscard]] bool is_string() const { return kind_ == Kind::kString; }
  [[nodiscard]] bool is_markup() const { return is_string() && scalar_.integer != 0; }
  [[nodiscard]] bool is_dict() const { return kind_ == Kind::kDict; }
  /// A bool counts as an integer, as in Python.
  [[nodiscard]] bool is_integer() const { return kind_ == Kind::kInt || kind_ == Kind::kBool; }
  [[nodiscard]] bool is_number() const { return is_integer() || kind_ == Kind::kFloat; }
  [[nodiscard]] bool is_sequence() const {
    return kind_ >= Kind::kList && kind_ <= Kind::kIterator;
  }

  // Each is for values of its kind only.
  [[nodiscard]] bool as_bool() const { return scalar_.integer != 0; }
  [[nodiscard]] int64_t as_integer() const { return scalar_.integer; }
  [[nodiscard]] double as_double() const {  // of any number
    return kind_ == Kind::kFloat ? scalar_.real : static_cast<double>(scalar_.integer);
  }
  [[nodiscard]] const std::string& as_text() const;
  [[nodiscard]] const SequenceData& as_sequence() const;
  [[nodiscard]] const std::vector<Value>& items() const;
  [[nodiscard]] const DictData& as_dict() const;
  [[nodiscard]] const FunctionData& as_function() const;
  [[nodiscard]] Macro& as_macro() const { return *static_cast<Macro*>(scalar_.owned); }
  [[nodiscard]] Namespace& as_namespace() const { return *static_cast<Namespace*>(scalar_.owned); }
  [[nodiscard]] Loop& as_loop() const { return *static_cast<Loop*>(scalar_.owned); }
  /// Why an undefined value is so.
  [[nodiscard]] std::string why_undefined() const;

  /// Levels of data below, 0 for a scalar.
  [[nodiscard]] int depth() const;
  /// The same object, as Python's `is` has it.
  [[nodiscard]] bool same_as(const Value& other) const;

 private:
  Kind kind_ = Kind::kUndefined;
  union {
    int64_t integer = 0;
    double real;
    void* owned;
  } scalar_;
  std::shared_ptr<const void> data_;
};

struct SequenceData {
  std::vector<Value> items;
  std::string_view name = {};  // of a view: "dict_keys"
  int64_t start = 0;           // of a range, for its text
  int64_t stop = 0;
  int64_t step = 1;
  int depth = 0;                // set by Value
  mutable size_t next_idx = 0;  // of an iterator
};

/// Keys are hashable scalars; entries keep the order of insertion.
struct DictData {
  /// A later value replaces an earlier one at its place. Linear in the entries for keys that are
  /// not text.
  void set(Value key, Value value);
  [[nodiscard]] const Value* find(const Value& key) const;
  [[nodiscard]] const Value* find(std::string_view key) const;

  std::vector<std::pair<Value, Value>> entries;
  int depth = 0;  // set by Value

 private:
  static constexpr size_t kNone = SIZE_MAX;
  [[nodiscard]] size_t idx_of(const Value& key) const;

  std::unordered_map<std::string_view, size_t> text_keys_;  // views into the entries' keys
};

[[nodiscard]] bool is_true(const Value& value);
/// Python's name of the type: "str", "int", "Undefined".
[[nodiscard]] std::string_view type_name(const Value& value);
/// May it be a dict's key? Tuples may not, unlike in Python.
[[nodiscard]] bool is_hashable(const Value& value);
/// The entries, characters or items; nothing for what has no length.
[[nodiscard]] bool has_length(const Value& value);
[[nodiscard]] int64_t length(const Value& value);

}  // namespace comet::text::jinja
