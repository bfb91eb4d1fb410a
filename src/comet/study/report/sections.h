// The report's sections, each a piece of HTML made of the rows. Caller: report.
#pragma once

#include <string>

#include "comet/study/recommendation/recommendation.h"
#include "comet/study/report/plots.h"

namespace comet::study {

/// What every section sees.
struct ReportInput {
  const StudySpec& spec;
  const ResultsFile& results;
  const RowIndex& index;
};

std::string report_style();
std::string report_script();

std::string recommendation_section(const ReportInput& in);
/// Quality, divergence from BF16 and size: a table and a plot for each model.
std::string quality_section(const ReportInput& in);
/// Synchronous latency and cost.
std::string sync_section(const ReportInput& in);
/// Queries per second within the objectives, and the curves that lead there.
std::string async_section(const ReportInput& in);
/// Where the paper's tables have their counterparts in the sections of `body`.
std::string paper_section(const ReportInput& in, const std::string& body);
/// How it was measured, what failed, and all rows.
std::string method_section(const ReportInput& in);

/// The style number of a format's series: its place in the spec.
size_t format_style(const StudySpec& spec, const std::string& format);
/// Names of formats beside their marks.
std::string legend(const StudySpec& spec);
/// A row's value with its error and unit, for what a plot shows when pointed at.
std::string point_note(const ResultRow& row);

struct TableColumn {
  std::string title;
  std::string metric;  // of rows: "sync/latency_mean"
  std::string profile;
  bool lower_is_better = true;
  bool mark_best = true;
};
/// A second line of a cell, such as "98.3 % of BF16"; and whether it is a bad one.
struct CellNote {
  std::string text;
  bool low = false;
};
using CellNoteMaker = CellNote (*)(const ReportInput&, const ResultRow&, const TableColumn&);
/// Formats down, columns across; the best of a column is bold. Empty without any row.
std::string format_table(const ReportInput& in, const std::string& model,
                         const std::vector<TableColumn>& columns, const std::string& caption,
                         CellNoteMaker note);

}  // namespace comet::study
