#include "comet/io/config_fields.h"

namespace comet::io {
namespace {

constexpr int64_t kMaxTokenId = INT32_MAX;

}  // namespace

int64_t ConfigFields::required_integer(std::string_view field, int64_t low, int64_t high) {
  const auto value = integer(field, low, high);
  if (!value && !error_) {
    fail(make_error(ErrorCode::kInvalidArgument,
                    "{}: field '{}' is missing; expected an integer from {} to {}", source(), field,
                    low, high));
  }
  return value.value_or(low);
}

std::vector<int64_t> ConfigFields::token_ids(std::string_view field) {
  const Json* value = find(field);
  if (value == nullptr) return {};
  std::vector<int64_t> ids;
  const auto add = [&](const Json& id) {
    if (!id.is_number_integer() || id < 0 || id > kMaxTokenId) {
      fail(make_error(ErrorCode::kInvalidArgument,
                      "{}: field '{}' is {}; expected a token id or a list of them", source(),
                      field, shown(*value)));
      return;
    }
    ids.push_back(id.get<int64_t>());
  };
  if (value->is_array()) {
    for (const Json& id : *value) add(id);
  } else {
    add(*value);
  }
  return ids;
}

void ConfigFields::unsupported(std::string_view field, std::string_view found,
                               std::string_view supported) {
  fail(make_error(ErrorCode::kUnsupported, "{}: field '{}' is {}, which Comet cannot run; {}",
                  source(), field, found, supported));
}

std::string shown(const Json& value) {
  return value.dump(-1, ' ', true, Json::error_handler_t::replace).substr(0, 80);
}

}  // namespace comet::io
