#include "comet/study/report/report.h"

#include "comet/study/report/html.h"
#include "comet/study/report/sections.h"

namespace comet::study {
namespace {

std::string joined_names(const StudySpec& spec) {
  std::string names;
  for (const StudyModel& model : spec.models) names += (names.empty() ? "" : ", ") + model.name;
  return names;
}

std::string text_of(const OrderedJson& json, const char* field) {
  if (!json.is_object() || !json.contains(field)) return "";
  const OrderedJson& value = json.at(field);
  if (value.is_null()) return "";
  return value.is_string() ? value.get<std::string>() : value.dump();
}

std::string header(const ReportInput& in) {
  const OrderedJson& machine = in.results.machine();
  std::string facts = in.spec.machine_name;
  for (const char* field : {"gpu", "cpu", "cores"}) {
    const std::string value = text_of(machine, field);
    if (value.empty() || value == facts) continue;
    facts += fmt::format("{}{}{}", facts.empty() ? "" : " · ", value,
                         std::string_view(field) == "cores" ? " cores" : "");
  }
  const std::string started = text_of(machine, "started_at");
  std::string html = fmt::format(
      "<h1>{}: what quantization costs, and what it saves</h1>\n<p class=\"lead\">{} format{} of "
      "{} model{}, {} rows.",
      escape_html(joined_names(in.spec)), in.spec.formats.size(),
      in.spec.formats.size() == 1 ? "" : "s", in.spec.models.size(),
      in.spec.models.size() == 1 ? "" : "s", in.index.rows().size());
  if (!facts.empty()) html += " Measured on " + escape_html(facts);
  if (!started.empty()) html += ", from " + escape_html(started);
  const std::string version = text_of(machine, "comet_version");
  if (!version.empty()) {
    html += fmt::format(", Comet {} at {}", escape_html(version),
                        escape_html(text_of(machine, "git_commit")));
  }
  return html + fmt::format(", seed {}.</p>\n", in.spec.seed);
}

std::string navigation(const std::string& body) {
  std::string html = "<nav aria-label=\"Sections\">";
  for (const auto& [anchor, title] : {std::pair{"recommendation", "Recommendation"},
                                      {"quality", "Size and quality"},
                                      {"similarity", "Distance from BF16"},
                                      {"sync", "One query at a time"},
                                      {"async", "Many at once"},
                                      {"paper", "The paper's tables"},
                                      {"method", "Method"},
                                      {"rows", "All rows"}}) {
    if (body.find(fmt::format("id=\"{}\"", anchor)) == std::string::npos) continue;
    html += fmt::format("<a href=\"#{}\">{}</a>", anchor, title);
  }
  return html + "</nav>\n";
}

}  // namespace

std::string report_html(const StudySpec& spec, const ResultsFile& results) {
  const RowIndex index(results.rows());
  const ReportInput in{spec, results, index};
  const std::string sections =
      recommendation_section(in) + quality_section(in) + sync_section(in) + async_section(in);
  const std::string body = sections + paper_section(in, sections) + method_section(in);
  return fmt::format(
             "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
             "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">"
             "<title>{}: study of formats</title>\n<style>",
             escape_html(joined_names(spec))) +
         report_style() + "</style></head>\n<body><main>\n" + header(in) + navigation(body) + body +
         "</main>\n<script>" + report_script() + "</script>\n</body></html>\n";
}

}  // namespace comet::study
