// Typed access to the fields of a request, driven by a table that /openapi.json is made of too, so
// that what is documented is what is checked. Callers: the parsers of protocol/request.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "comet/base/json.h"
#include "comet/server/protocol/api_error.h"

namespace comet::server {

enum class FieldKind { kInteger, kNumber, kBoolean, kString };

struct FieldSpec {
  std::string_view name;
  FieldKind kind = FieldKind::kBoolean;
  double low = 0;   // integers and numbers: the least value; strings: the least length in bytes
  double high = 0;  // inclusive, like low
  std::string_view help;
};

/// One object of a request. The first error sticks and ends up in error(); later calls return
/// nothing, so that a parser reads all fields and looks once.
class Fields {
 public:
  /// `path` stands before names in errors: "stream_options.". The object and the table outlive
  /// this.
  Fields(const Json& object, std::span<const FieldSpec> table, std::string path = "")
      : object_(object), table_(table), path_(std::move(path)) {}

  // nullopt when missing, null or wrong. `name` must be in the table with that kind.
  std::optional<int64_t> integer(std::string_view name);
  std::optional<double> number(std::string_view name);
  std::optional<bool> boolean(std::string_view name);
  std::optional<std::string> string(std::string_view name);

  /// nullptr when missing, null, or after an error.
  [[nodiscard]] const Json* find(std::string_view name) const;
  /// Records an error about a field unless there is one already.
  void fail(std::string_view name, std::string_view expected);
  void fail(ApiError error);
  [[nodiscard]] bool ok() const { return !error_.has_value(); }
  [[nodiscard]] const std::optional<ApiError>& error() const { return error_; }
  [[nodiscard]] std::string path_of(std::string_view name) const;

 private:
  [[nodiscard]] const FieldSpec& spec_of(std::string_view name, FieldKind kind) const;

  const Json& object_;
  std::span<const FieldSpec> table_;
  std::string path_;
  std::optional<ApiError> error_;
};

/// An integer of any JSON spelling (16, 16.0); nullopt when it is none or does not fit int64.
std::optional<int64_t> integer_of(const Json& value);

/// A short spelling of a value for error messages, ASCII only.
std::string value_text(const Json& value);

}  // namespace comet::server
