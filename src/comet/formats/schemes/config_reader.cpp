#include "comet/formats/schemes/config_reader.h"

#include <algorithm>

namespace comet::formats {
namespace {

constexpr size_t kMaxPatterns = 100'000;
constexpr size_t kMaxExpressions = 256;  // each is tried on every linear, and may take its steps

}  // namespace

const Json* ConfigReader::find(std::string_view field) const {
  if (object_ == nullptr || !object_->is_object()) return nullptr;
  const auto it = object_->find(field);
  return it == object_->end() || it->is_null() ? nullptr : &*it;
}

void ConfigReader::fail(std::string_view field, std::string_view expected) {
  const Json* value = find(field);
  fail(make_error(
      ErrorCode::kUnsupported, "{}: quantization_config.{}{} is {}; expected {}", source_, path_,
      field, value == nullptr ? "missing" : value->dump(-1, ' ', true).substr(0, 80), expected));
}

void ConfigReader::require(std::string_view field, std::initializer_list<Json> accepted,
                           std::string_view expected) {
  const Json* value = find(field);
  const Json found = value == nullptr ? Json() : *value;
  if (std::find(accepted.begin(), accepted.end(), found) == accepted.end()) fail(field, expected);
}

void ConfigReader::require_absent(std::string_view field, std::string_view expected) {
  const Json* value = find(field);
  if (value != nullptr && !(value->is_structured() && value->empty())) fail(field, expected);
}

bool ConfigReader::flag(std::string_view field, bool missing) {
  const Json* value = find(field);
  if (value == nullptr) return missing;
  if (!value->is_boolean()) {
    fail(field, "true or false");
    return missing;
  }
  return value->get<bool>();
}

int64_t ConfigReader::integer(std::string_view field, int64_t missing) {
  const Json* value = find(field);
  if (value == nullptr) return missing;
  if (!value->is_number_integer() || value->get<double>() > 0x1p40 ||
      value->get<double>() < -0x1p40) {
    fail(field, "an integer");
    return missing;
  }
  return value->get<int64_t>();
}

std::string ConfigReader::text(std::string_view field, std::string_view missing) {
  const Json* value = find(field);
  if (value == nullptr) return std::string(missing);
  if (!value->is_string()) {
    fail(field, "a string");
    return std::string(missing);
  }
  return value->get<std::string>();
}

std::vector<NamePattern> ConfigReader::patterns(std::string_view field) {
  const Json* list = find(field);
  std::vector<NamePattern> patterns;
  if (list == nullptr) return patterns;
  if (!list->is_array() || list->size() > kMaxPatterns) {
    fail(field, "a list of module names, classes and \"re:\" expressions");
    return patterns;
  }
  size_t num_expressions = 0;
  for (const Json& entry : *list) {
    if (!entry.is_string()) {
      fail(field, "a list of strings");
      return patterns;
    }
    num_expressions += entry.get_ref<const std::string&>().starts_with("re:") ? 1 : 0;
    if (num_expressions > kMaxExpressions) {
      fail(field, fmt::format("at most {} \"re:\" expressions", kMaxExpressions));
      return patterns;
    }
    auto pattern = NamePattern::parse(entry.get_ref<const std::string&>());
    if (!pattern) {
      fail(make_error(ErrorCode::kInvalidArgument, "{}: quantization_config.{}{}: {}: {}", source_,
                      path_, field, entry.dump(-1, ' ', true).substr(0, 80),
                      pattern.error().message));
      return patterns;
    }
    patterns.push_back(*std::move(pattern));
  }
  return patterns;
}

}  // namespace comet::formats
