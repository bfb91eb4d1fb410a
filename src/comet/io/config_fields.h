// Reads many fields of one JSON object and keeps the first error, so that a config reader lists its
// fields plainly and checks once. Private to this room.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "comet/base/json.h"

namespace comet::io {

class ConfigFields {
 public:
  ConfigFields(const Json& object, const std::string& source) : object_(object, source) {}

  [[nodiscard]] const Json* find(std::string_view field) const { return object_.find(field); }
  std::optional<int64_t> integer(std::string_view field, int64_t low, int64_t high) {
    return keep(object_.integer(field, low, high));
  }
  std::optional<double> number(std::string_view field, double low, double high) {
    return keep(object_.number(field, low, high));
  }
  std::optional<bool> boolean(std::string_view field) { return keep(object_.boolean(field)); }
  std::optional<std::string> string(std::string_view field) { return keep(object_.string(field)); }

  /// low when missing, which is an error.
  int64_t required_integer(std::string_view field, int64_t low, int64_t high);
  /// One token id, a list of them, or none.
  std::vector<int64_t> token_ids(std::string_view field);
  /// `found` is what the file says, `supported` what Comet runs.
  void unsupported(std::string_view field, std::string_view found, std::string_view supported);
  void fail(Error error) {
    if (!error_) error_ = std::move(error);
  }

  [[nodiscard]] const std::string& source() const { return object_.source(); }
  [[nodiscard]] const std::optional<Error>& error() const { return error_; }

 private:
  template <typename T>
  std::optional<T> keep(Result<std::optional<T>> result) {
    if (result) return *std::move(result);
    fail(result.error());
    return std::nullopt;
  }

  JsonObject object_;
  std::optional<Error> error_;
};

/// A value as it may stand in an error message: at most 80 bytes of ASCII.
std::string shown(const Json& value);

}  // namespace comet::io
