#include "comet/server/protocol/json/fields.h"

#include <cmath>

namespace comet::server {
namespace {

/// 2 rather than 2.000000, and the whole of a 64-bit bound.
std::string bound_text(double bound) {
  if (std::abs(bound) >= 0x1p63) return bound < 0 ? "-2^63" : "2^63 - 1";
  return fmt::format("{}", bound);
}

}  // namespace

std::optional<int64_t> integer_of(const Json& value) {
  if (value.is_number_unsigned()) {
    const auto bits = value.get<uint64_t>();
    if (bits > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
    return static_cast<int64_t>(bits);
  }
  if (value.is_number_integer()) return value.get<int64_t>();
  if (!value.is_number_float()) return std::nullopt;
  const auto number = value.get<double>();
  if (std::abs(number) > 0x1p53 || number != std::floor(number)) return std::nullopt;
  return static_cast<int64_t>(number);
}

std::string value_text(const Json& value) {
  constexpr size_t kMaxBytes = 60;
  if (value.is_array()) return fmt::format("a list of {}", value.size());
  if (value.is_object()) return "an object";
  if (value.is_string() && value.get_ref<const std::string&>().size() > kMaxBytes) {
    return fmt::format("a string of {} bytes", value.get_ref<const std::string&>().size());
  }
  return value.dump(-1, ' ', true, Json::error_handler_t::replace).substr(0, 6 * kMaxBytes);
}

const FieldSpec& Fields::spec_of(std::string_view name, FieldKind kind) const {
  for (const FieldSpec& spec : table_) {
    if (spec.name == name && spec.kind == kind) return spec;
  }
  COMET_CHECK(false, "field '{}' is not in the table", name);
  return table_.front();
}

const Json* Fields::find(std::string_view name) const {
  if (error_) return nullptr;
  const auto it = object_.find(name);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

std::string Fields::path_of(std::string_view name) const { return path_ + std::string(name); }

void Fields::fail(ApiError error) {
  if (!error_) error_ = std::move(error);
}

void Fields::fail(std::string_view name, std::string_view expected) {
  const auto it = object_.find(name);
  const std::string found = it == object_.end() ? "missing" : value_text(*it);
  fail(bad_field(path_of(name),
                 fmt::format("{} is {}; expected {}", path_of(name), found, expected)));
}

std::optional<int64_t> Fields::integer(std::string_view name) {
  const FieldSpec& spec = spec_of(name, FieldKind::kInteger);
  const Json* value = find(name);
  if (value == nullptr) return std::nullopt;
  const auto number = integer_of(*value);
  if (!number || static_cast<double>(*number) < spec.low ||
      static_cast<double>(*number) > spec.high) {
    fail(name,
         fmt::format("an integer from {} to {}", bound_text(spec.low), bound_text(spec.high)));
    return std::nullopt;
  }
  return number;
}

std::optional<double> Fields::number(std::string_view name) {
  const FieldSpec& spec = spec_of(name, FieldKind::kNumber);
  const Json* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number() ||
      !(value->get<double>() >= spec.low && value->get<double>() <= spec.high)) {
    fail(name, fmt::format("a number from {} to {}", bound_text(spec.low), bound_text(spec.high)));
    return std::nullopt;
  }
  return value->get<double>();
}

std::optional<bool> Fields::boolean(std::string_view name) {
  (void)spec_of(name, FieldKind::kBoolean);
  const Json* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) {
    fail(name, "true or false");
    return std::nullopt;
  }
  return value->get<bool>();
}

std::optional<std::string> Fields::string(std::string_view name) {
  const FieldSpec& spec = spec_of(name, FieldKind::kString);
  const Json* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) {
    fail(name, "a string");
    return std::nullopt;
  }
  const auto& text = value->get_ref<const std::string&>();
  const auto length = static_cast<double>(text.size());
  if (length < spec.low || length > spec.high) {
    fail(name, fmt::format("a string of {} to {} bytes", spec.low, spec.high));
    return std::nullopt;
  }
  return text;
}

}  // namespace comet::server
