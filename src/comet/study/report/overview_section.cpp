#include <algorithm>

#include "comet/study/report/html.h"
#include "comet/study/report/sections.h"

namespace comet::study {
namespace {

std::string choice_card(const std::string& situation, const std::string& format) {
  if (format.empty()) return "";
  return fmt::format("<div class=\"choice\"><span>{}</span><b>{}</b></div>", situation,
                     escape_html(format));
}

std::string statement_html(const ReportInput& in, const Statement& statement) {
  std::string links;
  for (const ResultRow* row : statement.rows) links += row_link(in.index, *row);
  std::string text = escape_html(statement.text);
  for (size_t at = text.find(" %"); at != std::string::npos; at = text.find(" %", at)) {
    text.replace(at, 1, "&nbsp;");
  }
  return "<li>" + text + links + "</li>\n";
}

std::string statements_html(const ReportInput& in, const ModelRecommendation& recommendation,
                            Statement::Kind kind, const std::string& title) {
  std::string html;
  for (const Statement& statement : recommendation.statements) {
    if (statement.kind == kind) html += statement_html(in, statement);
  }
  if (html.empty()) return "";
  return "<h4>" + title + "</h4><ul class=\"statements\">\n" + html + "</ul>\n";
}

/// Of this page: the sections that are in `body`, and those that always are.
bool has_anchor(const std::string& body, const std::string& anchor) {
  return anchor == "method" || anchor == "recommendation" ||
         body.find(fmt::format("id=\"{}\"", anchor)) != std::string::npos;
}

std::string format_flags(const StudyFormat& format) {
  std::string text = format.format;
  for (const auto* flags : {&format.flags, &format.common_flags}) {
    for (const auto& [flag, value] : *flags) text += fmt::format(" --{} {}", flag, value);
  }
  return text;
}

std::string failures_html(const ReportInput& in) {
  if (in.results.failures().empty()) return "";
  std::string html = "<h3 class=\"failed\">What failed</h3><ul>\n";
  for (const CellFailure& failure : in.results.failures()) {
    html += fmt::format("<li class=\"failed\">{}: {}</li>\n", escape_html(failure.cell.text()),
                        escape_html(failure.error));
  }
  return html + "</ul>\n";
}

std::string rows_html(const ReportInput& in) {
  std::string html = fmt::format(
      "<details id=\"rows\"><summary>All {} rows</summary><div class=\"scroll\"><table><thead><tr>"
      "<th>row</th><th class=\"text\">model</th><th class=\"text\">format</th><th "
      "class=\"text\">metric</th><th class=\"text\">profile</th><th>rate</th><th>value</th><th>± "
      "</th><th>n</th><th class=\"text\">unit</th></tr></thead><tbody>\n",
      in.index.rows().size());
  for (const ResultRow& row : in.index.rows()) {
    html += fmt::format(
        "<tr id=\"row-{0}\"><td>r{0}</td><td class=\"text\">{1}</td><td class=\"text\">{2}</td><td "
        "class=\"text\">{3}</td><td class=\"text\">{4}</td><td>{5}</td><td data-row=\"{0}\" "
        "data-value=\"{6}\">{6:.6g}</td><td>{7}</td><td>{8}</td><td class=\"text\">{9}</td></tr>\n",
        in.index.number(row), escape_html(row.model), escape_html(row.format),
        escape_html(row.metric), escape_html(row.profile),
        row.rate_per_s ? fmt::format("{:.4g}", *row.rate_per_s) : "", row.value,
        row.std_error ? fmt::format("{:.3g}", *row.std_error) : "", row.n, escape_html(row.unit));
  }
  return html + "</tbody></table></div></details>\n";
}

std::string asynchronous_points(const AsyncLoad& load) {
  if (load.window_s <= 0) {
    return fmt::format("after {:g} s or {}", load.duration_s, load.num_requests);
  }
  return fmt::format(
      "are windows of {:g} s in one run whose rate rises: before each, requests with a part of "
      "their answer behind them fill the server up to what the rate keeps in flight for ever, and "
      "what is left at the end is dropped (rows in_flight_begin and in_flight_end say how steady "
      "it was; queries a second are tokens over an answer's tokens, ± from eight slices of the "
      "window)",
      load.window_s);
}

}  // namespace

std::string recommendation_section(const ReportInput& in) {
  std::string html = "<h2 id=\"recommendation\">Recommendation</h2>\n";
  const std::string quality =
      in.spec.measures_quality()
          ? fmt::format(
                "Formats that keep at least {:.1f} % of BF16's quality in every metric, then",
                in.spec.accuracy_floor * 100)
          : "Of the formats";
  html += fmt::format(
      "<p class=\"lead\">{} those that keep the latency objectives, then the one that costs least "
      "a "
      "query. Each sentence names the rows that it stands on.</p>\n",
      quality);
  for (const StudyModel& model : in.spec.models) {
    const ModelRecommendation r = recommend(in.spec, in.index, model.name);
    html += "<div class=\"card\"><h3>" + escape_html(model.name) + "</h3>\n";
    const std::string cards = choice_card("one query at a time", r.sync_choice) +
                              choice_card("many queries at once", r.async_choice);
    if (!cards.empty()) html += "<div class=\"choices\">" + cards + "</div>\n";
    if (!r.missing.empty()) html += "<p class=\"note\">" + escape_html(r.missing) + "</p>\n";
    using Kind = Statement::Kind;
    html += statements_html(in, r, Kind::kQuality, "What each format keeps") +
            statements_html(in, r, Kind::kChoice, "What it costs") +
            statements_html(in, r, Kind::kFlip, "Where the choice flips") + "</div>\n";
  }
  return html;
}

std::string paper_section(const ReportInput& in, const std::string& body) {
  struct Counterpart {
    const char* paper;
    const char* what;
    const char* anchor;
    const char* here;
    bool measured;
  };
  const bool tasks = in.spec.has(MetricKind::kTask);
  const bool texts = in.spec.has(MetricKind::kText);
  const Counterpart rows[] = {
      {"Table 1", "GPTQ against AWQ", "quality",
       "rows of other --weights and --smooth in the table of quality; AWQ itself is not measured",
       tasks || texts},
      {"Tables 2 and 3", "accuracy and recovery on Leaderboard V1, V2 and real-world tasks",
       "quality", "the table of quality: value ± standard error, recovery below", tasks || texts},
      {"Figure 1", "ROUGE-1, ROUGE-L, BERTScore and STS of answers", "similarity",
       "the table of distance from BF16; STS by tools/semantic_similarity.py, no BERTScore",
       in.spec.has(MetricKind::kSimilarity)},
      {"Use cases", "prompt and generated tokens, machine prices", "method",
       "the use cases and the price under “How it was measured”", !in.spec.profiles.empty()},
      {"Table 5", "synchronous latency, queries per dollar and cost reduction", "sync",
       "the table of latency; cost reduction in the recommendation",
       in.spec.has(MetricKind::kSync)},
      {"Table 6", "asynchronous queries per second and per dollar", "async",
       "the table of queries a second", in.spec.has(MetricKind::kAsync)},
      {"Latency bounds", "inter-token latency over queries per second", "async",
       "the plots of time between tokens over rate", in.spec.has(MetricKind::kAsync)},
      {"Guidance", "which format for which deployment", "recommendation",
       "the recommendation, with the rate and the floor at which it flips", true},
  };
  std::string html =
      "<h2 id=\"paper\">Where the paper's tables are here</h2>\n<p class=\"lead\">“Give Me BF16 or "
      "Give "
      "Me Death?” (arXiv 2411.02355) and its counterparts in this report.</p>\n<div "
      "class=\"scroll\"><table><thead><tr><th class=\"text\">paper</th><th class=\"text\">what it "
      "shows</th><th class=\"text\">here</th></tr></thead><tbody>\n";
  for (const Counterpart& row : rows) {
    std::string here = "not in this spec";
    if (row.measured) here = "not measured yet";
    if (row.measured && has_anchor(body, row.anchor)) {
      here = fmt::format("<a href=\"#{}\">{}</a>", row.anchor, row.here);
    }
    html +=
        fmt::format("<tr><td>{}</td><td class=\"text\">{}</td><td class=\"text\">{}</td></tr>\n",
                    row.paper, row.what, here);
  }
  return html + "</tbody></table></div>\n";
}

std::string method_section(const ReportInput& in) {
  const StudySpec& spec = in.spec;
  std::string html = "<h2 id=\"method\">How it was measured</h2>\n<ul>\n";
  for (const StudyFormat& format : spec.formats) {
    html += fmt::format("<li>{}: <code>{}</code></li>\n", escape_html(format.name),
                        escape_html(format_flags(format)));
  }
  html += "</ul>\n";
  if (!spec.profiles.empty()) {
    html += "<p>Use cases, prompt + generated tokens";
    if (spec.profile_scale != 1) {
      html += fmt::format(" (the paper's times {:g}, for the models' context)", spec.profile_scale);
    }
    html += ": ";
    for (size_t i = 0; i < spec.profiles.size(); ++i) {
      const client::Profile& p = spec.profiles[i];
      html += fmt::format("{}{} {} + {}", i > 0 ? ", " : "", escape_html(p.title), p.input_tokens,
                          p.output_tokens);
    }
    html += fmt::format(
        ". Prompts are seeded random token ids, answers have a fixed length (ignore_eos); warm-up "
        "requests are dropped. Synchronous points end after {:g} s or {} requests, asynchronous "
        "ones {}. The load generator and the server share the machine.</p>\n",
        spec.sync.duration_s, spec.sync.num_requests, asynchronous_points(spec.async));
  }
  if (spec.price_per_hour > 0) {
    html += fmt::format(
        "<p>Cost of a query = ${:g} an hour{} × the mean latency (synchronous) or ÷ the queries a "
        "second (asynchronous).</p>\n",
        spec.price_per_hour,
        spec.machine_name.empty() ? "" : " for " + escape_html(spec.machine_name));
  }
  html +=
      "<p>Standard errors are of the metric's own sample; perplexities of two formats are of the "
      "same text, so most of their error is shared, and recovery in perplexity is taken as exact. "
      "Recovery in a task is judged with the errors of both.</p>\n";
  return html + failures_html(in) + rows_html(in);
}

}  // namespace comet::study
