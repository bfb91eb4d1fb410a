// results.json of a study: every row that has been measured, written whole after each cell, so that
// a run that was killed goes on where it ended. Callers: runner, report.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "comet/base/json.h"
#include "comet/study/spec/study_spec.h"

namespace comet::study {

/// One figure. `metric` is the spec's metric and what of it: "arc_easy/acc", "sync/ttft_p99".
struct ResultRow {
  std::string model;
  std::string format;
  std::string metric;
  std::string profile;  // empty: none
  double value = 0;
  std::optional<double> std_error;
  int64_t n = 0;  // samples: documents, tokens, requests
  std::string unit;
  std::optional<double> rate_per_s;  // offered, of an asynchronous point
  std::optional<bool> within_slo;    // of such a point
};

/// What is measured in one go: all rows of (model, format, metric, profile).
struct CellKey {
  std::string model;
  std::string format;
  std::string metric;
  std::string profile;

  /// "comet-14m · w4a16 · sync · chat".
  [[nodiscard]] std::string text() const;
  auto operator<=>(const CellKey&) const = default;
};

struct CellFailure {
  CellKey cell;
  std::string error;
};

class ResultsFile {
 public:
  /// Reads what is there. An error: the file is another spec's (the fields that differ are named),
  /// or no results.json.
  static Result<ResultsFile> open(const std::string& path, const StudySpec& spec);

  [[nodiscard]] bool has(const CellKey& cell) const { return done_.contains(cell); }
  /// Keeps a cell's rows (its earlier failure goes) and writes the file.
  Status add(const CellKey& cell, std::vector<ResultRow> rows);
  Status add_failure(const CellKey& cell, std::string error);
  /// Takes over the cells of `other` (of the same spec) that are missing here; how many.
  Result<int64_t> merge(const ResultsFile& other);
  void set_machine(OrderedJson machine) { machine_ = std::move(machine); }

  [[nodiscard]] const std::vector<ResultRow>& rows() const { return rows_; }
  [[nodiscard]] const std::vector<CellFailure>& failures() const { return failures_; }
  [[nodiscard]] const OrderedJson& machine() const { return machine_; }
  [[nodiscard]] OrderedJson json() const;

 private:
  ResultsFile(std::string path, OrderedJson spec)
      : path_(std::move(path)), spec_(std::move(spec)) {}
  Status read(const OrderedJson& json);
  Status write() const;

  std::string path_;
  OrderedJson spec_;
  OrderedJson machine_ = nullptr;
  std::set<CellKey> done_;
  std::vector<ResultRow> rows_;
  std::vector<CellFailure> failures_;
};

}  // namespace comet::study
