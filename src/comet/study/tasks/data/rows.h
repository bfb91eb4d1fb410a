// Rows of a task's data file: JSON Lines, a JSON array or CSV, each also as .gz. Callers: the
// loader, and the tasks' readers through DataRow's checked access. Every error names file and line.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "comet/base/json.h"

namespace comet::study {

/// One object of a data file; fields keep the file's order. Strings are valid UTF-8.
class DataRow {
 public:
  DataRow(OrderedJson value, std::string source)
      : value_(std::move(value)), source_(std::move(source)) {}

  [[nodiscard]] const std::string& source() const { return source_; }  // "file:line"
  [[nodiscard]] bool has(std::string_view field) const { return find(field) != nullptr; }
  [[nodiscard]] const OrderedJson* find(std::string_view field) const;
  Result<std::string> text(std::string_view field) const;
  Result<std::vector<std::string>> texts(std::string_view field) const;
  /// A number, a boolean or a text of digits, from 0 to `high`.
  Result<int64_t> index(std::string_view field, int64_t high) const;
  Result<DataRow> object(std::string_view field) const;
  /// The list `field` of objects.
  Result<std::vector<DataRow>> objects(std::string_view field) const;
  void set(std::string_view field, OrderedJson value) {
    value_[std::string(field)] = std::move(value);
  }

  Error wrong(std::string_view field, std::string_view expected) const;

 private:
  OrderedJson value_;
  std::string source_;
};

/// All rows. A file X.jsonl beside X-labels.lst (PIQA's) gets a field `label` of that file's lines.
/// A .csv file without a header line `question,…` has the columns question, choice0, …, answer.
Result<std::vector<DataRow>> read_rows(const std::string& path);

}  // namespace comet::study
