#include <algorithm>

#include "comet/study/report/html.h"
#include "comet/study/report/sections.h"

namespace comet::study {
namespace {

constexpr double kMsPerS = 1e3;

std::string profile_title(const client::Profile& profile) {
  return fmt::format("{}<span class=\"sub\">{} + {}</span>", escape_html(profile.title),
                     profile.input_tokens, profile.output_tokens);
}

std::vector<TableColumn> profile_columns(const ReportInput& in, const std::string& metric,
                                         bool lower_is_better) {
  std::vector<TableColumn> columns;
  for (const client::Profile& profile : in.spec.profiles) {
    columns.push_back({profile_title(profile), metric, profile.name, lower_is_better, true});
  }
  return columns;
}

/// Queries per dollar, the paper's figure: of the cost row of the same cell.
CellNote queries_per_dollar(const ReportInput& in, const ResultRow& row, const TableColumn&) {
  const std::string metric = row.metric.substr(0, row.metric.find('/')) + "/cost_per_query";
  const ResultRow* cost = in.index.find(row.model, row.format, metric, row.profile);
  if (cost == nullptr || cost->value <= 0) return {};
  const double queries = 1 / cost->value;
  return {queries >= 1e5 ? fmt::format("{:.0f}k / $", queries / 1e3)
                         : fmt::format("{:.0f} / $", queries),
          false};
}

std::string latency_plot(const ReportInput& in, const std::string& model) {
  std::vector<BarGroup> groups;
  for (const client::Profile& profile : in.spec.profiles) {
    BarGroup group{profile.title, {}};
    for (const StudyFormat& format : in.spec.formats) {
      const ResultRow* row = in.index.find(model, format.name, "sync/latency_mean", profile.name);
      if (row == nullptr) continue;
      group.bars.push_back({format.name,
                            format_style(in.spec, format.name),
                            {{0, row->value / kMsPerS, 1.96 * row->std_error.value_or(0) / kMsPerS,
                              point_note(*row), false}}});
    }
    if (!group.bars.empty()) groups.push_back(std::move(group));
  }
  if (groups.empty()) return "";
  PlotFrame frame;
  frame.title = model + ": latency of one request at a time";
  frame.y_label = "latency, s";
  return "<figure>" + bar_plot(frame, groups) + legend(in.spec) +
         "<figcaption>Mean latency of a query, one at a time, with its 95 % confidence interval."
         "</figcaption></figure>\n";
}

/// A latency over the offered rate; hollow points break the objectives or fall behind.
std::string curve_plot(const ReportInput& in, const std::string& model,
                       const client::Profile& profile, const std::string& figure,
                       std::optional<double> limit) {
  std::vector<PlotSeries> series;
  for (const StudyFormat& format : in.spec.formats) {
    PlotSeries one{format.name, format_style(in.spec, format.name), {}};
    for (const ResultRow* row :
         in.index.curve(model, format.name, "async/" + figure, profile.name)) {
      if (row->value <= 0) continue;
      one.points.push_back({*row->rate_per_s, row->value, 0,
                            fmt::format("{} at {:.3g}/s", point_note(*row), *row->rate_per_s),
                            !row->within_slo.value_or(true)});
    }
    if (!one.points.empty()) series.push_back(std::move(one));
  }
  if (series.empty()) return "";
  const bool is_itl = figure.starts_with("itl");
  PlotFrame frame;
  frame.title = fmt::format("{}, {}: {} over rate", model, profile.title, figure);
  frame.x_label = "offered queries a second";
  frame.y_label = is_itl ? "time between tokens, p99, ms" : "time to first token, p99, ms";
  frame.lines = true;
  frame.log_y = true;
  frame.y_limit = limit;
  frame.y_limit_name = "objective";
  return "<figure>" + xy_plot(frame, series) + "</figure>\n";
}

std::optional<double> limit_of(double ms) {
  return ms > 0 ? std::optional<double>(ms) : std::nullopt;
}

std::string objectives_text(const StudySpec& spec) {
  std::string text;
  if (spec.slo.ttft_p99_ms > 0) {
    text += fmt::format("99 % of first tokens within {:g} ms", spec.slo.ttft_p99_ms);
  }
  if (spec.slo.itl_p99_ms > 0) {
    text += fmt::format("{}99 % of gaps between tokens within {:g} ms", text.empty() ? "" : " and ",
                        spec.slo.itl_p99_ms);
  }
  return text.empty() ? "no objective but keeping up" : text;
}

}  // namespace

std::string sync_section(const ReportInput& in) {
  if (!in.spec.has(MetricKind::kSync)) return "";
  std::string html;
  for (const StudyModel& model : in.spec.models) {
    const std::string table =
        format_table(in, model.name, profile_columns(in, "sync/latency_mean", true),
                     "Mean latency of a query in ms ± standard error; below it queries per dollar.",
                     queries_per_dollar);
    if (table.empty()) continue;
    html += "<h3>" + escape_html(model.name) + "</h3>\n" + table + latency_plot(in, model.name);
    for (const auto& [metric, title] : {std::pair{"sync/ttft_mean", "time to first token"},
                                        {"sync/itl_mean", "time between tokens"},
                                        {"sync/latency_p99", "latency, 99th percentile"},
                                        {"sync/cost_per_query", "cost of a query"}}) {
      const std::string more = format_table(
          in, model.name, profile_columns(in, metric, true),
          fmt::format("{}{}.", title, metric == std::string("sync/cost_per_query") ? "" : ", ms"),
          nullptr);
      if (more.empty()) continue;
      html += fmt::format("<details><summary>{}: {}</summary>{}</details>\n",
                          escape_html(model.name), title, more);
    }
  }
  if (html.empty()) return "";
  return "<h2 id=\"sync\">One query at a time (synchronous)</h2>\n" + html;
}

std::string async_section(const ReportInput& in) {
  if (!in.spec.has(MetricKind::kAsync)) return "";
  std::string html;
  for (const StudyModel& model : in.spec.models) {
    const std::string table =
        format_table(in, model.name, profile_columns(in, "async/max_queries_per_s", false),
                     "Completed queries a second within the objectives; below it queries per "
                     "dollar. 0: the objectives held at no measured rate.",
                     queries_per_dollar);
    if (table.empty()) continue;
    html += "<h3>" + escape_html(model.name) + "</h3>\n" + table;
    for (const client::Profile& profile : in.spec.profiles) {
      const std::string plots =
          curve_plot(in, model.name, profile, "itl_p99", limit_of(in.spec.slo.itl_p99_ms)) +
          curve_plot(in, model.name, profile, "ttft_p99", limit_of(in.spec.slo.ttft_p99_ms));
      if (plots.empty()) continue;
      html += fmt::format(
          "<h3>{}: {} ({} + {} tokens)</h3>\n{}<div class=\"pair\">{}</div><p "
          "class=\"note\">Hollow points break an "
          "objective, or the server fell behind the rate.</p>\n",
          escape_html(model.name), escape_html(profile.title), profile.input_tokens,
          profile.output_tokens, legend(in.spec), plots);
    }
  }
  if (html.empty()) return "";
  return fmt::format(
             "<h2 id=\"async\">Many queries at once (asynchronous)</h2>\n<p>A rising rate of {} "
             "until the objectives break: {}.</p>\n",
             in.spec.async.window_s > 0 ? "evenly spaced arrivals" : "Poisson arrivals",
             objectives_text(in.spec)) +
         html;
}

}  // namespace comet::study
