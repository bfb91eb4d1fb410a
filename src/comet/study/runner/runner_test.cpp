#include "comet/study/runner/runner.h"

#include <gtest/gtest.h>

#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <fstream>

#include "comet/io/file.h"
#include "comet/study/runner/cell_rows.h"
#include "comet/study/runner/child_process.h"
#include "support/temporary_folder.h"

namespace comet::study {
namespace {

StudySpec spec_of(const std::string& changes = "{}") {
  Json json = Json::parse(R"({"models": ["models/demo"],
      "formats": [{"format": "bf16"}, {"format": "w4a16", "weights": "rtn"}],
      "metrics": ["size", "similarity", "sync"], "profiles": ["chat", "rag"],
      "prompts": "README.md"})");
  json.merge_patch(Json::parse(changes));
  return parse_study_spec(json.dump(), {"spec.json", COMET_SOURCE_DIR,
                                        [](const std::string&) -> const char* { return nullptr; }})
      .value();
}

TEST(StudyCells, AreModelsTimesFormatsTimesMetrics) {
  std::vector<std::string> texts;
  for (const CellKey& cell : study_cells(spec_of())) texts.push_back(cell.text());
  const std::string int4 = "demo · w4a16(weights=rtn) · ";
  EXPECT_EQ(texts,
            (std::vector<std::string>{
                "demo · bf16 · size", "demo · bf16 · sync · chat", "demo · bf16 · sync · rag",
                int4 + "size", int4 + "similarity", int4 + "sync · chat", int4 + "sync · rag"}));
}

TEST(QuantizeArguments, AreFlagsOfTheCommand) {
  const StudySpec spec = spec_of();
  const std::string model = COMET_SOURCE_DIR "/models/demo";
  EXPECT_EQ(quantize_arguments(spec.models[0], spec.formats[1], "OUT"),
            (std::vector<std::string>{"quantize", model, "--out", "OUT", "--format", "w4a16",
                                      "--weights", "rtn"}));
}

TEST(ServeArguments, AreOfAFolderOrAShape) {
  const StudySpec spec = spec_of(R"({"serve": {"max_seqs": 4}})");
  const std::vector<std::string> of_folder{"serve",           "DIR",        "--port", "0",
                                           "--no-access-log", "--max-seqs", "4"};
  EXPECT_EQ(serve_arguments(spec, spec.models[0], spec.formats[1], "DIR"), of_folder);
  const StudyModel shape{"110m", "", "110m", "TOK"};
  StudyFormat format = spec.formats[1];
  format.format = "w4ax";
  format.flags = {{"kv", "kv4"}};
  EXPECT_EQ(serve_arguments(spec, shape, format, ""),
            (std::vector<std::string>{"serve", "--synthetic", "110m", "--tokenizer", "TOK",
                                      "--format", "w4ax", "--port", "0", "--no-access-log", "--kv",
                                      "kv4", "--max-seqs", "4"}));
}

TEST(RowsOfResult, AreItsNumbers) {
  const Json result = Json::parse(R"({"acc": 0.5, "acc_stderr": 0.01, "acc_norm": 0.6,
      "num_samples": 100, "num_shots": 5, "windows": {"x": [1]}, "kl_mean": 0.1,
      "kl_stderr": 0.02, "token_perplexity": 17.5})");
  const auto rows = rows_of_result({"m", "f", "arc_easy", ""}, result);
  ASSERT_EQ(rows.size(), 4U);
  EXPECT_EQ(rows[0].metric, "arc_easy/acc");
  EXPECT_EQ(rows[0].std_error, 0.01);
  EXPECT_EQ(rows[0].n, 100);
  EXPECT_EQ(rows[0].unit, "share");
  EXPECT_EQ(rows[1].metric, "arc_easy/acc_norm");
  EXPECT_FALSE(rows[1].std_error.has_value());
  EXPECT_EQ(rows[2].std_error, 0.02);
  EXPECT_EQ(rows[3].unit, "perplexity");
}

TEST(CostPerQuery, IsPriceTimesTime) { EXPECT_DOUBLE_EQ(cost_per_query(3.6, 10), 0.01); }

class Results : public ::testing::Test {
 protected:
  Result<ResultsFile> open(const StudySpec& spec) { return ResultsFile::open(path_, spec); }

  testing::TemporaryFolder folder_;
  std::string path_ = folder_.path() + "/results.json";
  CellKey cell_{"demo", "bf16", "size", ""};
  std::vector<ResultRow> rows_{make_row(cell_, "", 28330200, "bytes", 1)};
};

TEST_F(Results, ComeBackAsTheyWere) {
  const StudySpec spec = spec_of();
  auto file = open(spec).value();
  EXPECT_FALSE(file.has(cell_));
  rows_.push_back(make_row(cell_, "x", 0.1 + 0.2, "s", 3));
  rows_.back().std_error = 1e-300;
  rows_.back().rate_per_s = 2.5;
  rows_.back().within_slo = false;
  ASSERT_TRUE(file.add(cell_, rows_).ok());
  ASSERT_TRUE(file.add_failure({"demo", "bf16", "sync", "chat"}, "it \"died\"\n").ok());
  const std::string text = io::read_file(path_, 1 << 20).value();
  auto again = open(spec).value();
  EXPECT_TRUE(again.has(cell_));
  EXPECT_FALSE(again.has({"demo", "bf16", "sync", "chat"}));
  EXPECT_EQ(again.json(), file.json());
  EXPECT_EQ(again.rows()[1].value, 0.1 + 0.2);
  // What failed before and is measured now has failed no more.
  ASSERT_TRUE(again.add({"demo", "bf16", "sync", "chat"}, {}).ok());
  EXPECT_TRUE(again.failures().empty());
  EXPECT_NE(text.find("\"version\": 1"), std::string::npos);
}

TEST_F(Results, OfAnotherSpecAreRefused) {
  auto file = open(spec_of()).value();
  ASSERT_TRUE(file.add(cell_, rows_).ok());
  const auto other = open(spec_of(R"({"limit": 5, "seed": 1})"));
  ASSERT_FALSE(other.ok());
  EXPECT_NE(other.error().message.find("another spec (it differs in: limit, seed)"),
            std::string::npos)
      << other.error().message;
  EXPECT_TRUE(open(spec_of(R"({"_remark": "other words"})")).ok());
}

TEST_F(Results, OfTwoMachinesAreMerged) {
  const StudySpec spec = spec_of();
  const CellKey chat{"demo", "bf16", "sync", "chat"};
  const CellKey rag{"demo", "bf16", "sync", "rag"};
  auto file = open(spec).value();
  ASSERT_TRUE(file.add(cell_, rows_).ok());
  ASSERT_TRUE(file.add_failure(chat, "it died").ok());
  auto other = ResultsFile::open(folder_.path() + "/other.json", spec).value();
  ASSERT_TRUE(other.add(cell_, {make_row(cell_, "", 1, "bytes", 1)}).ok());
  ASSERT_TRUE(other.add(chat, {make_row(chat, "ttft_p99", 5, "ms", 1)}).ok());
  ASSERT_TRUE(other.add_failure(rag, "no memory").ok());
  EXPECT_EQ(*file.merge(other), 1);
  EXPECT_EQ(*file.merge(other), 0);
  const auto again = open(spec).value();  // it was written
  ASSERT_EQ(again.rows().size(), 2U);
  EXPECT_EQ(again.rows()[0].value, 28330200);  // its own stays
  EXPECT_EQ(again.rows()[1].metric, "sync/ttft_p99");
  ASSERT_EQ(again.failures().size(), 1U);
  EXPECT_EQ(again.failures()[0].cell, rag);
}

TEST_F(Results, ThatAreNoneAreRefused) {
  for (const char* text : {"", "[1]", "{}", "{\"spec\": {}, \"rows\": 3}", "\xFF\xFE"}) {
    std::ofstream(path_) << text;
    EXPECT_FALSE(open(spec_of()).ok()) << text;
  }
}

TEST_F(Results, TakeNoNaN) {
  auto file = open(spec_of()).value();
  rows_[0].value = std::nan("");
  EXPECT_FALSE(file.add(cell_, rows_).ok());
  EXPECT_FALSE(file.has(cell_));
}

class Processes : public ::testing::Test {
 protected:
  Result<ChildProcess> shell(const std::string& line) {
    return ChildProcess::start({"/bin/sh", "-c", line}, log_);
  }
  testing::TemporaryFolder folder_;
  std::string log_ = folder_.path() + "/log";
};

TEST_F(Processes, EndAsTheyEnd) {
  EXPECT_TRUE(shell("echo fine")->wait().well());
  EXPECT_EQ(shell("exit 3")->wait().text(), "exit code 3");
  EXPECT_EQ(shell("kill -9 $$")->wait().text(), "killed by signal 9");
  EXPECT_EQ(ChildProcess::start({"/no/such/program"}, log_)->wait().exit_code, 127);
  EXPECT_FALSE(ChildProcess::start({"/bin/true"}, "/no/such/folder/log").ok());
}

TEST_F(Processes, LeaveTheirLastWords) {
  shell("echo one; echo 'comet: error: no disk' >&2; echo bye")->wait();
  EXPECT_EQ(last_words(log_), "no disk");
  shell("echo later")->wait();
  EXPECT_EQ(last_words(log_), "no disk");
  EXPECT_EQ(last_words(folder_.path() + "/none"), "");
}

TEST_F(Processes, AreStoppedEvenIfTheyWillNotEnd) {
  auto process = shell("trap '' TERM; echo deaf; while :; do sleep 0.01; done").value();
  while (last_words(log_) != "deaf" && !process.poll()) usleep(1000);
  EXPECT_FALSE(process.poll().has_value());
  EXPECT_EQ(process.stop(0.1).signal, SIGKILL);
  auto polite = shell("exec sleep 100").value();
  EXPECT_EQ(polite.stop(10).signal, SIGTERM);
}

// Each cell of a study whose binary is a script: failures are kept, the rest goes on, and the next
// run measures only what is missing.
TEST(RunStudy, KeepsFailuresAndResumes) {
  const testing::TemporaryFolder folder;
  const std::string script = folder.path() + "/comet";
  std::ofstream(script) << "#!/bin/sh\n"
                           "[ \"$1\" = quantize ] && echo 'comet: error: no memory' && exit 1\n"
                           "echo 'comet: error: not today' && exit 1\n";
  ::chmod(script.c_str(), 0755);
  StudySpec spec = spec_of(R"({"metrics": ["size", "text:models/demo/heldout.txt"]})");
  RunnerOptions options;
  options.binary = script;
  options.out_directory = folder.path() + "/out";
  auto results = ResultsFile::open(folder.path() + "/results.json", spec).value();
  options.only_metrics = {"no such"};
  EXPECT_EQ(run_study(spec, options, results)->num_left, 4);
  options.only_metrics.clear();
  options.only_formats = {"bf16"};
  options.only_profiles = {"chat"};  // texts have none
  auto elsewhere = ResultsFile::open(folder.path() + "/elsewhere.json", spec).value();
  EXPECT_EQ(run_study(spec, options, elsewhere)->num_left, 2);
  options.only_formats.clear();
  const RunnerReport first = run_study(spec, options, results).value();
  EXPECT_EQ(first.num_cells, 4);
  EXPECT_EQ(first.num_measured, 1);  // the size of BF16
  EXPECT_EQ(first.num_failed, 3);
  ASSERT_EQ(results.failures().size(), 3U);
  EXPECT_NE(results.failures()[0].error.find("not today"), std::string::npos);
  EXPECT_NE(results.failures()[1].error.find("quantizing failed"), std::string::npos);
  EXPECT_NE(results.failures()[2].error.find("no memory"), std::string::npos);
  // Now evaluation works.
  std::ofstream(script) << "#!/bin/sh\n"
                           "[ \"$1\" = quantize ] && exit 1\n"
                           "while [ $# -gt 0 ]; do [ \"$1\" = --json ] && file=$2; shift; done\n"
                           "echo '{\"machine\": {\"cores\": 3}, \"result\": {\"tasks\": {\"t\": "
                           "{\"token_perplexity\": 17.5, \"num_tokens\": 9}}}}' > \"$file\"\n";
  auto again = ResultsFile::open(folder.path() + "/results.json", spec).value();
  const RunnerReport second = run_study(spec, options, again).value();
  EXPECT_EQ(second.num_kept, 1);
  EXPECT_EQ(second.num_measured, 1);
  EXPECT_EQ(second.num_failed, 2);
  ASSERT_EQ(again.rows().size(), 2U);
  EXPECT_EQ(again.rows()[0].metric, "size");
  EXPECT_EQ(again.rows()[1].metric, "text:models/demo/heldout.txt/token_perplexity");
  EXPECT_EQ(again.rows()[1].n, 9);
  EXPECT_EQ(again.machine().at("cores"), 3);
}

}  // namespace
}  // namespace comet::study
