// RowIndex: finds rows of results by what they are. A row's number is its place in results.json;
// the report names rows by it. Callers: recommendation, report.
#pragma once

#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "comet/study/runner/results_file.h"

namespace comet::study {

class RowIndex {
 public:
  explicit RowIndex(const std::vector<ResultRow>& rows);

  /// A row without a rate; nullptr when there is none.
  [[nodiscard]] const ResultRow* find(const std::string& model, const std::string& format,
                                      const std::string& metric,
                                      const std::string& profile = "") const;
  /// The rows of a sweep, by rate.
  [[nodiscard]] std::vector<const ResultRow*> curve(const std::string& model,
                                                    const std::string& format,
                                                    const std::string& metric,
                                                    const std::string& profile) const;
  [[nodiscard]] size_t number(const ResultRow& row) const {
    return static_cast<size_t>(&row - rows_.data());
  }
  [[nodiscard]] const std::vector<ResultRow>& rows() const { return rows_; }

 private:
  using Key = std::tuple<std::string, std::string, std::string, std::string>;
  const std::vector<ResultRow>& rows_;
  std::map<Key, std::vector<const ResultRow*>> at_;
};

/// What of a metric speaks for its quality: a task's acc_norm or else acc, a text's perplexity, ….
struct QualityFigure {
  std::string metric;      // of the spec
  std::string row_metric;  // "arc_easy/acc_norm"
  bool lower_is_better = false;
};
/// Of the metrics that have a row.
std::vector<QualityFigure> quality_figures(const StudySpec& spec, const RowIndex& index,
                                           const std::string& model);

}  // namespace comet::study
