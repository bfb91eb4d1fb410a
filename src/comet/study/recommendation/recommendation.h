// The recommendation: formats that keep enough quality, then those that keep the latency
// objectives, then the one that costs least a query; who comes second, and where the choice flips
// ("Give Me BF16 or Give Me Death?", §4-5). A pure function of the rows. Caller: report.
#pragma once

#include <string>
#include <vector>

#include "comet/study/runner/row_index.h"

namespace comet::study {

/// One sentence and the rows that it stands on; never without one.
struct Statement {
  enum class Kind { kQuality, kChoice, kFlip };
  Kind kind = Kind::kQuality;
  std::string text;
  std::vector<const ResultRow*> rows;
};

/// What a format keeps of BF16's quality in one metric.
struct Recovery {
  QualityFigure figure;
  const ResultRow* row = nullptr;
  const ResultRow* base = nullptr;
  double share = 1;      // value/base, base/value of a perplexity
  double std_error = 0;  // 0 for perplexities: on the same text most of the error is shared

  /// The highest floor that is kept, or of which the sample cannot tell (95 %).
  [[nodiscard]] double highest_floor() const { return share + 1.96 * std_error; }
  [[nodiscard]] bool keeps(double floor) const { return highest_floor() >= floor; }
};
std::vector<Recovery> recoveries(const StudySpec& spec, const RowIndex& index,
                                 const std::string& model, const std::string& format);

struct ModelRecommendation {
  std::string model;
  std::string sync_choice;  // empty: none can be made
  std::string async_choice;
  std::vector<Statement> statements;
  std::string missing;  // why there is no choice, or what it leaves out; without rows
};
ModelRecommendation recommend(const StudySpec& spec, const RowIndex& index,
                              const std::string& model);

/// "text:../heldout.txt" → "heldout.txt", other metrics as they are.
std::string short_metric(const std::string& metric);

/// Where two curves of latency over rate cross, by straight lines between their points; both must
/// be known there. 0: they do not.
double crossing_rate(const std::vector<const ResultRow*>& a,
                     const std::vector<const ResultRow*>& b);

}  // namespace comet::study
