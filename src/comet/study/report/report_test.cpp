#include "comet/study/report/report.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "comet/study/recommendation/recommendation.h"
#include "comet/study/report/html.h"
#include "comet/study/report/plots.h"
#include "support/temporary_folder.h"

namespace comet::study {
namespace {

constexpr const char* kText = "text:models/demo/heldout.txt";

StudySpec spec_of(const std::string& changes = "{}") {
  Json json = Json::parse(R"({"models": ["models/demo"],
      "formats": [{"format": "bf16"}, {"format": "w8a8-int"}, {"format": "w4a16"},
                  {"format": "w4ax", "recipe": "naive"}],
      "metrics": ["size", "text:models/demo/heldout.txt", "arc_easy", "sync", "async"],
      "profiles": ["chat"], "data": "models", "accuracy_floor": 0.95,
      "machine": {"name": "<box> & co", "price_per_hour": 3.6},
      "slo": {"ttft_p99_ms": 1000, "itl_p99_ms": 100}})");
  json.merge_patch(Json::parse(changes));
  return parse_study_spec(json.dump(), {"spec.json", COMET_SOURCE_DIR,
                                        [](const std::string&) -> const char* { return nullptr; }})
      .value();
}

/// BF16, an 8-bit format that loses nothing, a 4-bit one that loses 4 %, and one that loses all.
class StudyReport : public ::testing::Test {
 protected:
  struct Format {
    const char* name;
    double size;
    double perplexity;
    double acc;
    double latency_ms;
    double max_rate;
    std::vector<double> itl;  // at 1, 2, 4 queries a second
  };

  void SetUp() override {
    for (const Format& f :
         std::vector<Format>{{"bf16", 28e6, 20, 0.5, 2000, 2, {30, 40, 90}},
                             {"w8a8-int", 15e6, 20.2, 0.5, 1200, 8, {24, 26, 30}},
                             {"w4a16", 9e6, 20.8, 0.49, 1000, 4, {20, 25, 60}},
                             {"w4ax(naive)", 9e6, 60, 0.3, 500, 9, {10, 11, 12}}}) {
      add(f.name, "size", "", f.size, "bytes");
      add(f.name, std::string(kText) + "/token_perplexity", "", f.perplexity, "perplexity", 0.2);
      add(f.name, "arc_easy/acc_norm", "", f.acc, "share", 0.005);
      add(f.name, "sync/latency_mean", "chat", f.latency_ms, "ms", 10);
      add(f.name, "sync/ttft_p99", "chat", 200, "ms");
      add(f.name, "sync/itl_p99", "chat", 30, "ms");
      add(f.name, "sync/cost_per_query", "chat", f.latency_ms / 1e6, "$");
      add(f.name, "async/max_queries_per_s", "chat", f.max_rate, "1/s");
      add(f.name, "async/cost_per_query", "chat", 1e-3 / f.max_rate, "$");
      for (size_t i = 0; i < f.itl.size(); ++i) {
        for (const char* metric : {"async/itl_mean", "async/itl_p99", "async/ttft_p99"}) {
          add(f.name, metric, "chat", f.itl[i], "ms");
          rows_.back().rate_per_s = std::pow(2, i);
          rows_.back().within_slo = f.itl[i] < 80;
        }
      }
    }
  }

  void add(const std::string& format, const std::string& metric, const std::string& profile,
           double value, const std::string& unit, std::optional<double> std_error = {}) {
    rows_.push_back({"demo", format, metric, profile, value, std_error, 100, unit, {}, {}});
  }

  [[nodiscard]] ModelRecommendation recommendation(const StudySpec& spec) const {
    return recommend(spec, RowIndex(rows_), "demo");
  }

  static bool says(const ModelRecommendation& r, const std::string& text) {
    for (const Statement& statement : r.statements) {
      if (statement.text.find(text) != std::string::npos) return true;
    }
    return false;
  }

  [[nodiscard]] std::string html(const StudySpec& spec) const {
    const testing::TemporaryFolder folder;
    auto results = ResultsFile::open(folder.path() + "/results.json", spec).value();
    EXPECT_TRUE(results.add({"demo", "bf16", "size", ""}, rows_).ok());
    EXPECT_TRUE(results.add_failure({"demo", "w4a16", "sync", "chat"}, "<died> & gone").ok());
    return report_html(spec, results);
  }

  std::vector<ResultRow> rows_;
};

TEST_F(StudyReport, RecommendsTheCheapestThatKeepsTheFloor) {
  const ModelRecommendation r = recommendation(spec_of());
  EXPECT_EQ(r.sync_choice, "w4a16");
  EXPECT_EQ(r.async_choice, "w8a8-int");
  EXPECT_TRUE(r.missing.empty());
  EXPECT_TRUE(says(r, "w4ax(naive) is left out: it keeps 33.3 % of bf16's quality"));
  EXPECT_TRUE(says(r, "2.00 times cheaper than bf16"));
  EXPECT_TRUE(says(r, "The runner-up is w8a8-int"));
  // ITL of w8a8-int and w4a16: 24, 26, 30 against 20, 25, 60 cross between 2 and 4.
  EXPECT_TRUE(
      says(r, "Multi-turn chat: the choice flips at 2.06 queries a second; below it w4a16"));
  EXPECT_TRUE(says(r,
                   "With a floor above 96.2 % the choice for one query at a time flips to "
                   "w8a8-int"));
  EXPECT_TRUE(says(r, "or less the choice for one query at a time flips to w4ax(naive)"));
  for (const Statement& statement : r.statements) EXPECT_FALSE(statement.rows.empty());
}

TEST_F(StudyReport, AHigherFloorFlipsTheChoice) {
  EXPECT_EQ(recommendation(spec_of(R"({"accuracy_floor": 0.97})")).sync_choice, "w8a8-int");
  EXPECT_EQ(recommendation(spec_of(R"({"accuracy_floor": 1})")).sync_choice, "bf16");
  EXPECT_EQ(recommendation(spec_of(R"({"accuracy_floor": 0})")).sync_choice, "w4ax(naive)");
}

TEST_F(StudyReport, ObjectivesAreKeptOneQueryAtATime) {
  const ModelRecommendation r = recommendation(spec_of(R"({"slo": {"ttft_p99_ms": 100}})"));
  EXPECT_EQ(r.sync_choice, "");
  EXPECT_TRUE(says(r, "breaks the objectives even one query at a time"));
}

TEST_F(StudyReport, AFormatWithoutAllItsRowsIsNotRecommended) {
  std::erase_if(rows_, [](const ResultRow& row) {
    return row.format == "w4a16" && row.metric == "arc_easy/acc_norm";
  });
  const ModelRecommendation r = recommendation(spec_of());
  EXPECT_EQ(r.sync_choice, "w8a8-int");
  EXPECT_TRUE(says(r, "w4a16 is left out, because some of its quality is not measured"));
}

TEST_F(StudyReport, SaysWhyNothingIsRecommended) {
  rows_.clear();
  EXPECT_FALSE(recommendation(spec_of()).missing.empty());
  SetUp();
  std::erase_if(rows_, [](const ResultRow& row) { return row.unit == "$"; });
  EXPECT_FALSE(recommendation(spec_of()).missing.empty());
  const StudySpec no_base = spec_of(R"({"formats": [{"format": "w4a16"}]})");
  EXPECT_NE(recommendation(no_base).missing.find("bf16"), std::string::npos);
}

TEST_F(StudyReport, WithoutQualityCostAloneRanks) {
  const StudySpec spec = spec_of(R"({"metrics": ["sync", "async"]})");
  const ModelRecommendation r = recommendation(spec);
  EXPECT_EQ(r.sync_choice, "w4ax(naive)");
  EXPECT_EQ(r.async_choice, "w4ax(naive)");
  EXPECT_NE(r.missing.find("cost alone"), std::string::npos);
  EXPECT_FALSE(says(r, "quality"));
}

TEST_F(StudyReport, NamesUseCasesWhereAnotherFormatIsCheapest) {
  add("w8a8-int", "async/cost_per_query", "rag", 2e-4, "$");
  add("w4a16", "async/cost_per_query", "rag", 1.5e-4, "$");
  const ModelRecommendation r = recommendation(spec_of(R"({"profiles": ["chat", "rag"]})"));
  EXPECT_EQ(r.async_choice, "w8a8-int");
  EXPECT_TRUE(says(r,
                   "RAG, many queries at once: w4a16 is cheapest, at $0.15 per 1,000 queries; "
                   "w8a8-int costs 33.3 % more."));
}

TEST(CrossingRate, IsWhereStraightLinesMeet) {
  const auto curve = [](std::vector<ResultRow>& rows,
                        const std::vector<std::pair<double, double>>& points) {
    for (const auto& [rate, value] : points) {
      rows.emplace_back();
      rows.back().rate_per_s = rate;
      rows.back().value = value;
    }
    std::vector<const ResultRow*> out;
    for (const ResultRow& row : rows) out.push_back(&row);
    return out;
  };
  std::vector<ResultRow> a;
  std::vector<ResultRow> b;
  std::vector<ResultRow> c;
  const auto rising = curve(a, {{1, 10}, {3, 30}});
  EXPECT_DOUBLE_EQ(crossing_rate(rising, curve(b, {{1, 20}, {2, 20}, {4, 20}})), 2);
  EXPECT_EQ(crossing_rate(rising, curve(c, {{1, 40}, {3, 50}})), 0);
  EXPECT_EQ(crossing_rate(rising, {}), 0);
}

/// Every value of an attribute.
std::vector<std::string> attributes(const std::string& html, const std::string& name) {
  std::vector<std::string> values;
  const std::string opening = " " + name + "=\"";
  for (size_t at = html.find(opening); at != std::string::npos; at = html.find(opening, at + 1)) {
    const size_t begin = at + opening.size();
    values.push_back(html.substr(begin, html.find('"', begin) - begin));
  }
  return values;
}

TEST_F(StudyReport, FiguresAreRows) {
  const std::string page = html(spec_of());
  const std::string opening = "data-row=\"";
  size_t num_figures = 0;
  for (size_t at = page.find(opening); at != std::string::npos; at = page.find(opening, at + 1)) {
    const size_t number = std::stoul(page.substr(at + opening.size()));
    ASSERT_LT(number, rows_.size());
    const std::string tag = page.substr(at, page.find('>', at) - at);
    const size_t value = tag.find("data-value=\"");
    if (value == std::string::npos) continue;
    ++num_figures;
    EXPECT_EQ(std::stod(tag.substr(value + 12)), rows_[number].value) << tag;
  }
  EXPECT_GT(num_figures, rows_.size());  // tables, and the list of all rows
}

TEST_F(StudyReport, IsOneFileThatEscapesAndLinks) {
  const std::string page = html(spec_of());
  EXPECT_TRUE(page.starts_with("<!DOCTYPE html>"));
  EXPECT_EQ(page.find("http"), std::string::npos);  // no outside asset, no link
  EXPECT_EQ(page.find("<box>"), std::string::npos);
  EXPECT_NE(page.find("&lt;box&gt; &amp; co"), std::string::npos);
  EXPECT_NE(page.find("&lt;died&gt; &amp; gone"), std::string::npos);
  const auto ids = attributes(page, "id");
  const std::set<std::string> known(ids.begin(), ids.end());
  EXPECT_EQ(known.size(), ids.size());
  for (const std::string& link : attributes(page, "href")) {
    EXPECT_TRUE(known.contains(link.substr(1))) << link;
  }
  for (const char* tag : {"table", "svg", "figure", "details", "ul", "tr", "td", "div"}) {
    size_t balance = 0;
    for (size_t at = page.find(std::string("<") + tag); at != std::string::npos;
         at = page.find(std::string("<") + tag, at + 1)) {
      const char next = page[at + 1 + std::string(tag).size()];
      if (next == ' ' || next == '>') ++balance;
    }
    for (size_t at = page.find(std::string("</") + tag + ">"); at != std::string::npos;
         at = page.find(std::string("</") + tag + ">", at + 1)) {
      --balance;
    }
    EXPECT_EQ(balance, 0U) << tag;
  }
}

TEST_F(StudyReport, OfNothingIsStillAPage) {
  rows_.clear();
  const std::string page = html(spec_of());
  EXPECT_NE(page.find("All 0 rows"), std::string::npos);
  EXPECT_NE(page.find("</html>"), std::string::npos);
}

TEST(Html, EscapesAndReplacesWhatIsNoUtf8) {
  EXPECT_EQ(escape_html("a<b>&\"'"), "a&lt;b&gt;&amp;&quot;&#39;");
  EXPECT_EQ(escape_html("é\xFF\xE2\x82"), "é\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");
}

TEST(Html, ValuesAreForPeople) {
  EXPECT_EQ(value_text(28330200, "bytes"), "28.3 MB");
  EXPECT_EQ(value_text(0.4567, "share"), "45.7 %");
  EXPECT_EQ(value_text(17.3151, "perplexity"), "17.32");
  EXPECT_EQ(value_text(1234.5, "ms"), "1234");
  EXPECT_EQ(value_text(0.0123, "$"), "$0.0123");
  EXPECT_EQ(value_text(0, "1/s"), "0");
}

TEST(Ticks, AreRound) {
  EXPECT_EQ(ticks(0, 10, 5), (std::vector<double>{0, 2, 4, 6, 8, 10}));
  EXPECT_EQ(ticks(3, 3, 5), std::vector<double>{3});
}

}  // namespace
}  // namespace comet::study
