#include "comet/text/template/json_value.h"

#include "comet/text/unicode/utf8.h"

namespace comet::text {
namespace {

using jinja::DictData;
using jinja::Value;

Value text_value(const std::string& text) {
  return Value::text(is_valid_utf8(text) ? text : replace_invalid_utf8(text));
}

Value unsigned_value(uint64_t number) {
  // Python's integers have no end; these have: such a number prints as a double does.
  if (number > static_cast<uint64_t>(INT64_MAX)) return Value::real(static_cast<double>(number));
  return Value::integer(static_cast<int64_t>(number));
}

template <typename AnyJson>
Value converted(const AnyJson& json, int depth) {
  COMET_CHECK(depth < kMaxJsonDepth, "JSON nested deeper than {} levels", kMaxJsonDepth);
  if (json.is_null() || json.is_discarded() || json.is_binary()) return Value::none();
  if (json.is_boolean()) return Value::boolean(json.template get<bool>());
  if (json.is_number_unsigned()) return unsigned_value(json.template get<uint64_t>());
  if (json.is_number_integer()) return Value::integer(json.template get<int64_t>());
  if (json.is_number_float()) return Value::real(json.template get<double>());
  if (json.is_string()) return text_value(json.template get_ref<const std::string&>());
  if (json.is_array()) {
    std::vector<Value> items;
    items.reserve(json.size());
    for (const auto& item : json) items.push_back(converted(item, depth + 1));
    return Value::list(std::move(items));
  }
  DictData dict;
  for (const auto& [key, item] : json.items()) {
    dict.set(text_value(key), converted(item, depth + 1));
  }
  return Value::dict(std::move(dict));
}

/// nlohmann's events → a Value. Containers under construction stand on a stack.
class ValueBuilder {
 public:
  explicit ValueBuilder(int max_depth) : max_depth_(max_depth) {}

  bool null() { return add(Value::none()); }
  bool boolean(bool value) { return add(Value::boolean(value)); }
  bool number_integer(int64_t value) { return add(Value::integer(value)); }
  bool number_unsigned(uint64_t value) { return add(unsigned_value(value)); }
  bool number_float(double value, const std::string& /*text*/) { return add(Value::real(value)); }
  bool string(std::string& value) { return add(Value::text(std::move(value))); }
  bool binary(Json::binary_t& /*value*/) { return false; }
  bool start_object(size_t /*size*/) { return open(true); }
  bool start_array(size_t /*size*/) { return open(false); }
  bool key(std::string& name) {
    open_.back().key = Value::text(std::move(name));
    return true;
  }
  bool end_object() { return close(Value::dict(std::move(open_.back().dict))); }
  bool end_array() { return close(Value::list(std::move(open_.back().items))); }
  bool parse_error(size_t /*at*/, const std::string& /*token*/, const Json::exception& error) {
    error_ = error.what();
    return false;
  }

  [[nodiscard]] const std::string& error() const { return error_; }
  Value take() { return std::move(root_); }

 private:
  struct Open {
    bool is_object;
    Value key;
    DictData dict;
    std::vector<Value> items;
  };

  bool open(bool is_object) {
    if (static_cast<int>(open_.size()) >= max_depth_) {
      error_ = fmt::format("nested deeper than {} levels", max_depth_);
      return false;
    }
    open_.push_back({is_object, {}, {}, {}});
    return true;
  }

  bool add(Value value) {
    if (open_.empty()) {
      root_ = std::move(value);
    } else if (open_.back().is_object) {
      open_.back().dict.set(std::move(open_.back().key), std::move(value));
    } else {
      open_.back().items.push_back(std::move(value));
    }
    return true;
  }

  bool close(Value value) {
    open_.pop_back();
    return add(std::move(value));
  }

  int max_depth_;
  std::vector<Open> open_;
  Value root_;
  std::string error_;
};

}  // namespace

Value value_of(const Json& json) { return converted(json, 0); }
Value value_of(const OrderedJson& json) { return converted(json, 0); }

Result<Value> parse_json_value(std::string_view text, std::string_view source,
                               const JsonLimits& limits) {
  if (text.size() > limits.max_bytes) {
    return make_error(ErrorCode::kCorrupt, "{}: {} bytes of JSON, more than the limit of {}",
                      source, text.size(), limits.max_bytes);
  }
  ValueBuilder builder(std::min(limits.max_depth, kMaxJsonDepth));
  if (!Json::sax_parse(text.begin(), text.end(), &builder)) {
    return make_error(ErrorCode::kCorrupt, "{}: not valid JSON: {}", source, builder.error());
  }
  return builder.take();
}

}  // namespace comet::text
