#include "comet/base/json.h"

namespace comet {
namespace {

/// Builds a DOM like nlohmann's own parser, but refuses documents nested deeper than max_depth.
Json parse_bounded(std::string_view text, int max_depth, bool& too_deep) {
  const auto callback = [&](int depth, Json::parse_event_t, Json&) {
    if (depth > max_depth) {
      too_deep = true;
      throw std::length_error("depth");  // leaves the parser at once; caught below
    }
    return true;
  };
  try {
    return Json::parse(text.begin(), text.end(), callback);
  } catch (const std::length_error&) {
    return {};
  }
}

}  // namespace

Result<Json> parse_json(std::string_view text, std::string_view source, const JsonLimits& limits) {
  if (text.size() > limits.max_bytes) {
    return make_error(ErrorCode::kCorrupt, "{}: {} bytes of JSON, more than the limit of {}",
                      source, text.size(), limits.max_bytes);
  }
  try {
    bool too_deep = false;
    Json value = parse_bounded(text, limits.max_depth, too_deep);
    if (too_deep) {
      return make_error(ErrorCode::kCorrupt, "{}: JSON nested deeper than {} levels", source,
                        limits.max_depth);
    }
    return value;
  } catch (const Json::exception& e) {
    return make_error(ErrorCode::kCorrupt, "{}: not valid JSON: {}", source, e.what());
  }
}

bool JsonObject::has(std::string_view field) const { return find(field) != nullptr; }

const Json* JsonObject::find(std::string_view field) const {
  if (!object_.is_object()) return nullptr;
  const auto it = object_.find(field);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

Result<std::optional<int64_t>> JsonObject::integer(std::string_view field, int64_t low,
                                                   int64_t high) const {
  const Json* value = find(field);
  if (value == nullptr) return std::optional<int64_t>{};
  const bool huge =
      value->is_number_unsigned() && value->get<uint64_t>() > static_cast<uint64_t>(INT64_MAX);
  if (!value->is_number_integer() || huge || value->get<int64_t>() < low ||
      value->get<int64_t>() > high) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: field '{}' is {}; expected an integer from {} to {}", source_, field,
                      value->dump(-1, ' ', true).substr(0, 80), low, high);
  }
  return std::optional<int64_t>(value->get<int64_t>());
}

Result<std::optional<double>> JsonObject::number(std::string_view field, double low,
                                                 double high) const {
  const Json* value = find(field);
  if (value == nullptr) return std::optional<double>{};
  if (!value->is_number() || !(value->get<double>() >= low && value->get<double>() <= high)) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: field '{}' is {}; expected a number from {} to {}", source_, field,
                      value->dump(-1, ' ', true).substr(0, 80), low, high);
  }
  return std::optional<double>(value->get<double>());
}

Result<std::optional<bool>> JsonObject::boolean(std::string_view field) const {
  const Json* value = find(field);
  if (value == nullptr) return std::optional<bool>{};
  if (!value->is_boolean()) {
    return make_error(ErrorCode::kInvalidArgument, "{}: field '{}' is {}; expected true or false",
                      source_, field, value->dump(-1, ' ', true).substr(0, 80));
  }
  return std::optional<bool>(value->get<bool>());
}

Result<std::optional<std::string>> JsonObject::string(std::string_view field) const {
  const Json* value = find(field);
  if (value == nullptr) return std::optional<std::string>{};
  if (!value->is_string()) {
    return make_error(ErrorCode::kInvalidArgument, "{}: field '{}' is {}; expected a string",
                      source_, field, value->dump(-1, ' ', true).substr(0, 80));
  }
  return std::optional<std::string>(value->get<std::string>());
}

}  // namespace comet
