#include <algorithm>

#include "comet/study/report/html.h"
#include "comet/study/report/sections.h"

namespace comet::study {
namespace {

/// "acc_norm" → "acc norm".
std::string words_of(std::string name) {
  std::ranges::replace(name, '_', ' ');
  return name;
}

bool has_column(const ReportInput& in, const std::string& model, const std::string& metric) {
  return std::ranges::any_of(in.spec.formats, [&](const StudyFormat& format) {
    return in.index.find(model, format.name, metric) != nullptr;
  });
}

CellNote recovery_note(const ReportInput& in, const ResultRow& row, const TableColumn& column) {
  for (const Recovery& r : recoveries(in.spec, in.index, row.model, row.format)) {
    if (r.row != &row || r.row == r.base) continue;
    return {fmt::format("{:.1f} %", r.share * 100), !r.keeps(in.spec.accuracy_floor)};
  }
  if (column.metric == "size") {
    for (const StudyFormat& format : in.spec.formats) {
      const ResultRow* base = in.index.find(row.model, format.name, "size");
      if (!format.is_base() || base == nullptr || base == &row) continue;
      return {fmt::format("{:.2f}×", row.value / base->value), false};
    }
  }
  return {};
}

std::string accuracy_table(const ReportInput& in, const std::string& model) {
  std::vector<TableColumn> columns;
  if (has_column(in, model, "size")) columns.push_back({"size", "size", "", true, true});
  for (const QualityFigure& figure : quality_figures(in.spec, in.index, model)) {
    const std::string kind = figure.row_metric.substr(figure.metric.size() + 1);
    columns.push_back(
        {fmt::format("{}<span class=\"sub\">{}</span>", escape_html(short_metric(figure.metric)),
                     escape_html(words_of(kind))),
         figure.row_metric, "", figure.lower_is_better, true});
  }
  return format_table(
      in, model, columns,
      fmt::format("Value ± standard error; below it the share of BF16's quality that is kept "
                  "(BF16/format for a perplexity), red below the floor of {:.1f} % by more than "
                  "the sample can hide. A bold figure is the best of its column.",
                  in.spec.accuracy_floor * 100),
      recovery_note);
}

/// Every other figure of a task that the first table leaves out.
std::string more_table(const ReportInput& in, const std::string& model) {
  std::vector<TableColumn> columns;
  const auto figures = quality_figures(in.spec, in.index, model);
  for (const StudyMetric& metric : in.spec.metrics) {
    if (metric.kind != MetricKind::kTask && metric.kind != MetricKind::kText) continue;
    for (const char* name : {"acc", "perplexity", "word_perplexity", "byte_perplexity",
                             "bits_per_byte", "paper_perplexity", "exact_match_strict"}) {
      const std::string row_metric = metric.name + "/" + name;
      const bool shown = std::ranges::any_of(
          figures, [&](const QualityFigure& figure) { return figure.row_metric == row_metric; });
      if (shown || !has_column(in, model, row_metric)) continue;
      columns.push_back({fmt::format("{}<span class=\"sub\">{}</span>",
                                     escape_html(short_metric(metric.name)), words_of(name)),
                         row_metric, "", std::string_view(name).substr(0, 3) != "acc", true});
    }
  }
  if (columns.empty()) return "";
  return "<details><summary>Other figures of the same tasks</summary>" +
         format_table(in, model, columns, "Value ± standard error.", nullptr) + "</details>\n";
}

std::string divergence_table(const ReportInput& in, const std::string& model) {
  std::vector<TableColumn> columns;
  for (const StudyMetric& metric : in.spec.metrics) {
    if (metric.kind != MetricKind::kText) continue;
    for (const auto& [name, title] :
         {std::pair{"kl_mean", "KL, nats/token"}, {"top1_agreement", "top-1 agreement"}}) {
      const std::string row_metric = metric.name + "/" + name;
      if (!has_column(in, model, row_metric)) continue;
      columns.push_back({fmt::format("{}<span class=\"sub\">{}</span>",
                                     escape_html(short_metric(metric.name)), title),
                         row_metric, "", std::string_view(name) == "kl_mean", true});
    }
  }
  for (const auto& [name, title, lower] : {std::tuple{"rouge1", "ROUGE-1", false},
                                           {"rougeL", "ROUGE-L", false},
                                           {"exact_match", "exact match", false},
                                           {"first_divergence_mean", "first divergence", false},
                                           {"kl_mean", "KL of answers", true},
                                           {"top1_agreement", "top-1 of answers", false}}) {
    const std::string row_metric = std::string("similarity/") + name;
    if (!has_column(in, model, row_metric)) continue;
    columns.push_back({title, row_metric, "", lower, true});
  }
  if (columns.empty()) return "";
  const bool first = model == in.spec.models.front().name;  // an id stands once in a page
  return fmt::format("<h3{}>{}: distance from BF16</h3>\n", first ? " id=\"similarity\"" : "",
                     escape_html(model)) +
         format_table(in, model, columns,
                      "KL divergence of the format from BF16 and the share of tokens with the same "
                      "likeliest one, on the same text; ROUGE, exact match and the first differing "
                      "token of greedy answers to the same prompts.",
                      nullptr);
}

std::string size_plot(const ReportInput& in, const std::string& model) {
  const auto figures = quality_figures(in.spec, in.index, model);
  const auto it = std::ranges::find_if(figures, &QualityFigure::lower_is_better);
  if (it == figures.end()) return "";
  std::vector<PlotSeries> series;
  for (const StudyFormat& format : in.spec.formats) {
    const ResultRow* size = in.index.find(model, format.name, "size");
    const ResultRow* row = in.index.find(model, format.name, it->row_metric);
    if (size == nullptr || row == nullptr) continue;
    series.push_back({format.name,
                      format_style(in.spec, format.name),
                      {{size->value / 1e6, row->value, 0,
                        point_note(*row) + ", " + value_text(size->value, "bytes"), false}}});
  }
  if (series.size() < 2) return "";
  PlotFrame frame;
  frame.title = fmt::format("{}: size against perplexity of {}", model, short_metric(it->metric));
  frame.x_label = "size, MB";
  frame.y_label = "perplexity";
  frame.labels = true;
  return fmt::format(
      "<figure>{}<figcaption>Size against perplexity of {}: lower left is better."
      "</figcaption></figure>\n",
      xy_plot(frame, series), escape_html(short_metric(it->metric)));
}

}  // namespace

std::string quality_section(const ReportInput& in) {
  std::string html;
  for (const StudyModel& model : in.spec.models) {
    const std::string table = accuracy_table(in, model.name);
    if (table.empty()) continue;
    html += "<h3>" + escape_html(model.name) + "</h3>\n" + table + more_table(in, model.name) +
            size_plot(in, model.name) + divergence_table(in, model.name);
  }
  if (html.empty()) return "";
  return "<h2 id=\"quality\">Size and quality</h2>\n" + html;
}

}  // namespace comet::study
