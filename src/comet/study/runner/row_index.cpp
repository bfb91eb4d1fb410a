#include "comet/study/runner/row_index.h"

#include <algorithm>
#include <array>

namespace comet::study {
namespace {

bool has_row(const StudySpec& spec, const RowIndex& index, const std::string& model,
             const std::string& metric) {
  return std::ranges::any_of(spec.formats, [&](const StudyFormat& format) {
    return index.find(model, format.name, metric) != nullptr;
  });
}

}  // namespace

RowIndex::RowIndex(const std::vector<ResultRow>& rows) : rows_(rows) {
  for (const ResultRow& row : rows) {
    at_[{row.model, row.format, row.metric, row.profile}].push_back(&row);
  }
  for (auto& [key, list] : at_) {
    std::ranges::stable_sort(list, [](const ResultRow* a, const ResultRow* b) {
      return a->rate_per_s.value_or(0) < b->rate_per_s.value_or(0);
    });
  }
}

const ResultRow* RowIndex::find(const std::string& model, const std::string& format,
                                const std::string& metric, const std::string& profile) const {
  const auto it = at_.find({model, format, metric, profile});
  if (it == at_.end() || it->second.front()->rate_per_s) return nullptr;
  return it->second.front();
}

std::vector<const ResultRow*> RowIndex::curve(const std::string& model, const std::string& format,
                                              const std::string& metric,
                                              const std::string& profile) const {
  const auto it = at_.find({model, format, metric, profile});
  if (it == at_.end()) return {};
  std::vector<const ResultRow*> curve;
  for (const ResultRow* row : it->second) {
    if (row->rate_per_s) curve.push_back(row);
  }
  return curve;
}

std::vector<QualityFigure> quality_figures(const StudySpec& spec, const RowIndex& index,
                                           const std::string& model) {
  constexpr std::array kScores{"acc_norm", "acc", "exact_match_flexible", "exact_match", "pass@1"};
  constexpr std::array kPerplexities{"token_perplexity"};
  std::vector<QualityFigure> figures;
  for (const StudyMetric& metric : spec.metrics) {
    const bool text = metric.kind == MetricKind::kText;
    if (!text && metric.kind != MetricKind::kTask) continue;
    const auto first_of = [&](const auto& names) {
      for (const char* name : names) {
        const std::string row_metric = metric.name + "/" + name;
        if (!has_row(spec, index, model, row_metric)) continue;
        figures.push_back({metric.name, row_metric, text});
        return;
      }
    };
    if (text) {
      first_of(kPerplexities);
    } else {
      first_of(kScores);
    }
  }
  return figures;
}

}  // namespace comet::study
