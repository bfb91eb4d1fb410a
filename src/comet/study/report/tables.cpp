#include <algorithm>

#include "comet/study/report/html.h"
#include "comet/study/report/sections.h"

namespace comet::study {
namespace {

constexpr size_t kNumStyles = 24;  // of kNumColors colours and six shapes

const ResultRow* best_row(const ReportInput& in, const std::string& model,
                          const TableColumn& column) {
  const ResultRow* best = nullptr;
  int count = 0;
  for (const StudyFormat& format : in.spec.formats) {
    const ResultRow* row = in.index.find(model, format.name, column.metric, column.profile);
    if (row == nullptr) continue;
    ++count;
    const bool better = best == nullptr || (column.lower_is_better ? row->value < best->value
                                                                   : row->value > best->value);
    if (better) best = row;
  }
  return count > 1 && column.mark_best ? best : nullptr;
}

}  // namespace

size_t format_style(const StudySpec& spec, const std::string& format) {
  const auto it = std::ranges::find(spec.formats, format, &StudyFormat::name);
  return static_cast<size_t>(it - spec.formats.begin()) % kNumStyles;
}

std::string legend(const StudySpec& spec) {
  constexpr const char* kShapes[] = {
      R"(<circle cx="7" cy="7" r="5"/>)",  R"(<rect x="2.5" y="2.5" width="9" height="9"/>)",
      R"(<path d="M7 1l5.5 10h-11z"/>)",   R"(<path d="M7 1l6 6l-6 6l-6 -6z"/>)",
      R"(<path d="M7 13l5.5 -10h-11z"/>)", R"(<path d="M5 1h4v4h4v4h-4v4h-4v-4h-4v-4h4z"/>)"};
  std::string html = "<ul class=\"legend\">";
  for (const StudyFormat& format : spec.formats) {
    const size_t style = format_style(spec, format.name);
    html += fmt::format(
        R"(<li><svg viewBox="0 0 14 14" aria-hidden="true"><g class="mark s{}">{}</g></svg>{}</li>)",
        style % kNumColors, kShapes[style % 6], escape_html(format.name));
  }
  return html + "</ul>\n";
}

std::string point_note(const ResultRow& row) {
  std::string text = value_text(row.value, row.unit);
  if (row.std_error && *row.std_error > 0) {
    text += " ± " + value_text(*row.std_error, row.unit);
  }
  if (row.unit != "$" && row.unit != "bytes" && row.unit != "share") text += " " + row.unit;
  return text;
}

std::string format_table(const ReportInput& in, const std::string& model,
                         const std::vector<TableColumn>& columns, const std::string& caption,
                         CellNoteMaker note) {
  std::string body;
  bool any = false;
  for (const StudyFormat& format : in.spec.formats) {
    body += fmt::format("<tr><td>{}</td>", escape_html(format.name));
    for (const TableColumn& column : columns) {
      const ResultRow* row = in.index.find(model, format.name, column.metric, column.profile);
      if (row == nullptr) {
        body += "<td>–</td>";
        continue;
      }
      any = true;
      const CellNote more = note == nullptr ? CellNote{} : note(in, *row, column);
      std::string classes = row == best_row(in, model, column) ? "best" : "";
      if (more.low) classes += classes.empty() ? "low" : " low";
      body += fmt::format("<td{}>{}{}</td>",
                          classes.empty() ? "" : fmt::format(" class=\"{}\"", classes),
                          figure_html(in.index, *row),
                          more.text.empty() ? "" : "<span class=\"sub\">" + more.text + "</span>");
    }
    body += "</tr>\n";
  }
  if (!any) return "";
  std::string html = fmt::format(
      "<div class=\"scroll\"><table><caption>{}</caption><thead><tr>"
      "<th scope=\"col\">format</th>",
      caption);
  for (const TableColumn& column : columns) {
    html += fmt::format("<th scope=\"col\">{}</th>", column.title);
  }
  return html + "</tr></thead><tbody>\n" + body + "</tbody></table></div>\n";
}

}  // namespace comet::study
