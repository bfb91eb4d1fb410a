// Checked access to the nested fields of a tokenizer.json on top of JsonObject: an object or array
// together with its place in the file, so that every message says where. Internal to text/json/.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "comet/base/json.h"
#include "comet/base/result.h"

namespace comet::text {

/// A value in the file; `where` is the file and the path to the value: "tokenizer.json: model".
struct JsonPlace {
  const Json* value;  // lives as long as the parsed file
  std::string where;
  std::string_view separator = ".";  // between `where` and a field's name; ": " behind the file's

  [[nodiscard]] JsonObject object() const { return {*value, where}; }
  [[nodiscard]] JsonPlace element(size_t idx) const;  // of an array

  /// A field of this object; nothing when it is missing or null.
  [[nodiscard]] std::optional<JsonPlace> find(std::string_view field) const;
  /// The same field, which must be there and be of that type.
  [[nodiscard]] Result<JsonPlace> require_object(std::string_view field) const;
  [[nodiscard]] Result<JsonPlace> require_array(std::string_view field) const;
  [[nodiscard]] Result<std::string> require_string(std::string_view field) const;
  [[nodiscard]] Result<int64_t> require_integer(std::string_view field, int64_t low,
                                                int64_t high) const;

  /// A field that selects behaviour. Any value but `supported` is kUnsupported; a Boolean may also
  /// be missing.
  [[nodiscard]] Status only_type(std::string_view field, std::string_view supported) const;
  [[nodiscard]] Status only_flag(std::string_view field, bool supported) const;

  /// This place has a value of the wrong type.
  [[nodiscard]] Error unexpected(std::string_view expected) const;
};

}  // namespace comet::text
