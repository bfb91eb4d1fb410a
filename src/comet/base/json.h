// JSON at the edges: a bounded parser and typed field access whose errors name file and field.
// Callers: config, tokenizer and manifest readers, and apps that write --json results.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "comet/base/result.h"

namespace comet {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;

struct JsonLimits {
  size_t max_bytes = size_t{256} << 20;
  int max_depth = 64;
};

/// Parses `text`; `source` (a file name, mostly) opens every error message.
Result<Json> parse_json(std::string_view text, std::string_view source,
                        const JsonLimits& limits = {});

/// Field access on one object; `source` names the file. A missing field gives nullopt, and so does
/// null; a wrong type or a value outside [low, high] is an error that names the field.
class JsonObject {
 public:
  JsonObject(const Json& object, std::string source)
      : object_(object), source_(std::move(source)) {}

  [[nodiscard]] bool has(std::string_view field) const;
  Result<std::optional<int64_t>> integer(std::string_view field, int64_t low, int64_t high) const;
  Result<std::optional<double>> number(std::string_view field, double low, double high) const;
  Result<std::optional<bool>> boolean(std::string_view field) const;
  Result<std::optional<std::string>> string(std::string_view field) const;
  [[nodiscard]] const Json* find(std::string_view field) const;  // nullptr when missing or null
  [[nodiscard]] const std::string& source() const { return source_; }

 private:
  const Json& object_;
  std::string source_;
};

}  // namespace comet
