#include "comet/text/json/fields.h"

#include "comet/text/unicode/printable.h"

namespace comet::text {
namespace {

/// A value for a message: its first characters, or its size where it would be long to print.
std::string shown(const Json& value) {
  constexpr size_t kMaxPrintedItems = 8;
  constexpr size_t kMaxPrintedBytes = 80;
  if (value.is_structured() && value.size() > kMaxPrintedItems) {
    return fmt::format("an {} of {} items", value.type_name(), value.size());
  }
  return value.dump(-1, ' ', true).substr(0, kMaxPrintedBytes);
}

Error missing(const JsonPlace& place, std::string_view field, std::string_view expected) {
  return make_error(ErrorCode::kInvalidArgument, "{}: field '{}' is missing; expected {}",
                    place.where, field, expected);
}

Error unsupported(const JsonPlace& place, std::string_view field, std::string_view value,
                  std::string_view supported) {
  return make_error(ErrorCode::kUnsupported, "{}: field '{}' is {}, but Comet supports only {}",
                    place.where, field, value, supported);
}

}  // namespace

JsonPlace JsonPlace::element(size_t idx) const {
  return {&(*value)[idx], fmt::format("{}[{}]", where, idx)};
}

std::optional<JsonPlace> JsonPlace::find(std::string_view field) const {
  const Json* found = object().find(field);
  if (found == nullptr) return std::nullopt;
  return JsonPlace{found, fmt::format("{}{}{}", where, separator, field)};
}

Error JsonPlace::unexpected(std::string_view expected) const {
  return make_error(ErrorCode::kInvalidArgument, "{} is {}; expected {}", where, shown(*value),
                    expected);
}

Result<JsonPlace> JsonPlace::require_object(std::string_view field) const {
  std::optional<JsonPlace> found = find(field);
  if (!found) return missing(*this, field, "an object");
  if (!found->value->is_object()) return found->unexpected("an object");
  return *std::move(found);
}

Result<JsonPlace> JsonPlace::require_array(std::string_view field) const {
  std::optional<JsonPlace> found = find(field);
  if (!found) return missing(*this, field, "an array");
  if (!found->value->is_array()) return found->unexpected("an array");
  return *std::move(found);
}

Result<std::string> JsonPlace::require_string(std::string_view field) const {
  Result<std::optional<std::string>> text = object().string(field);
  if (!text.ok()) return text.error();
  if (!*text) return missing(*this, field, "a string");
  return **std::move(text);
}

Result<int64_t> JsonPlace::require_integer(std::string_view field, int64_t low,
                                           int64_t high) const {
  const Result<std::optional<int64_t>> number = object().integer(field, low, high);
  if (!number.ok()) return number.error();
  if (!*number) return missing(*this, field, fmt::format("an integer from {} to {}", low, high));
  return **number;
}

Status JsonPlace::only_type(std::string_view field, std::string_view supported) const {
  Result<std::string> type = require_string(field);
  if (!type.ok()) return type.error();
  if (*type != supported) {
    return unsupported(*this, field, fmt::format("'{}'", printable(*type)),
                       fmt::format("'{}'", supported));
  }
  return {};
}

Status JsonPlace::only_flag(std::string_view field, bool supported) const {
  const Result<std::optional<bool>> flag = object().boolean(field);
  if (!flag.ok()) return flag.error();
  if (flag->value_or(supported) != supported) {
    return unsupported(*this, field, supported ? "false" : "true", supported ? "true" : "false");
  }
  return {};
}

}  // namespace comet::text
