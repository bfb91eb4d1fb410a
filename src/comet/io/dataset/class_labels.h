// What a classifier's outputs are called: timm's `label_names` and `label_descriptions` of
// config.json, or a class map file. Callers: apps, the trainer's data.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "comet/base/result.h"

namespace comet {
using Json = nlohmann::json;  // as in comet/base/json.h
}

namespace comet::io {

struct ClassLabels {
  std::vector<std::string> names;         // by class; empty: unnamed. Names of data folders
  std::vector<std::string> descriptions;  // by class, for people; empty: the names

  [[nodiscard]] std::optional<int64_t> index_of(std::string_view name) const;
  /// Description, name or number of a class: the first that there is.
  [[nodiscard]] std::string text(int64_t class_idx) const;
};

/// Both fields are optional; a list whose length is not `num_classes` is an error.
Result<ClassLabels> parse_class_labels(const Json& config, int64_t num_classes,
                                       const std::string& source);

/// A text file with one class a line, or a JSON object {name: index}; indices are 0 to n − 1.
Result<ClassLabels> read_class_map(const std::string& path);

}  // namespace comet::io
