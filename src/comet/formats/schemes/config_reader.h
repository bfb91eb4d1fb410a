// One object of a quantization_config being read: fields are asked for with what is accepted, the
// first wrong one becomes the error. Private to this folder.
#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "comet/base/json.h"
#include "comet/formats/schemes/name_pattern.h"

namespace comet::formats {

class ConfigReader {
 public:
  /// `object` may be null: then every field is missing. `path` ends in '.' or is empty.
  ConfigReader(const Json* object, std::string source, std::string path)
      : object_(object), source_(std::move(source)), path_(std::move(path)) {}

  /// nullptr when missing or null.
  [[nodiscard]] const Json* find(std::string_view field) const;
  /// The field is one of `accepted`; null among them: may be missing.
  void require(std::string_view field, std::initializer_list<Json> accepted,
               std::string_view expected);
  /// The field is missing, null, or an empty object or list.
  void require_absent(std::string_view field, std::string_view expected);
  bool flag(std::string_view field, bool missing);
  int64_t integer(std::string_view field, int64_t missing);
  std::string text(std::string_view field, std::string_view missing);
  /// A list of patterns; a missing one is empty.
  std::vector<NamePattern> patterns(std::string_view field);
  void fail(std::string_view field, std::string_view expected);
  void fail(Error error) {
    if (!error_) error_ = std::move(error);
  }

  [[nodiscard]] const std::string& source() const { return source_; }
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] const std::optional<Error>& error() const { return error_; }

 private:
  const Json* object_;
  std::string source_;
  std::string path_;
  std::optional<Error> error_;
};

}  // namespace comet::formats
