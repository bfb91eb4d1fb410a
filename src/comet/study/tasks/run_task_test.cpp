#include "comet/study/tasks/run_task.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "comet/models/load.h"
#include "comet/study/tasks/code/sandbox.h"
#include "comet/study/tasks/figures.h"
#include "support/temporary_folder.h"

namespace comet::study {
namespace {

using ::comet::testing::TemporaryFolder;

constexpr const char* kData = COMET_SOURCE_DIR "/tests/data/lm_eval";
constexpr const char* kModel = COMET_SOURCE_DIR "/models/demo";

struct Demo {
  explicit Demo(int num_threads = 2)
      : runtime(Runtime::cpu(detect_cpu_isa(), num_threads)),
        model(models::load_model(runtime->context(), io::Checkpoint::open(kModel).value(), "")
                  .value()),
        tokenizer(text::Tokenizer::from_json(
                      io::read_file(std::string(kModel) + "/tokenizer.json", 1 << 24).value(), "t")
                      .value()) {}
  Result<TaskResult> run(const LoadedTask& loaded, const RunOptions& options) {
    return run_task(runtime->context(), *model, tokenizer, loaded, options);
  }

  std::unique_ptr<Runtime> runtime;
  std::unique_ptr<models::LlamaModel> model;
  text::Tokenizer tokenizer;
};

LoadedTask load(std::string_view name, int64_t num_shots = -1) {
  return load_task(*find_task(name), {kData, 0, num_shots}).value();
}

double value_of(const TaskResult& result, std::string_view name) {
  for (const TaskMetric& metric : result.metrics) {
    if (metric.name == name) return metric.value;
  }
  ADD_FAILURE() << "no metric " << name;
  return NAN;
}

/// The goldens were made with AVX-512. Other instruction sets add in another order, whose roundings
/// to BF16 move the log-probability of a continuation by 0.030 at most (portable and AVX2, the same
/// for both; an EPYC, 2026-11-26).
double most_off() { return detect_cpu_isa() >= CpuIsa::kAvx512 ? 2e-3 : 5e-2; }

void expect_answer(const Answer& answer, const Json& golden, const std::string& what) {
  if (golden.is_string()) {
    // Far down a greedy text another instruction set may choose otherwise.
    EXPECT_EQ(answer.text.substr(0, 24), golden.get<std::string>().substr(0, 24)) << what;
    return;
  }
  ASSERT_EQ(answer.likelihoods.size(), golden.size()) << what;
  for (size_t i = 0; i < golden.size(); ++i) {
    EXPECT_NEAR(answer.likelihoods[i].log_prob, golden[i][0].get<double>(), most_off())
        << what << i;
    EXPECT_EQ(answer.likelihoods[i].is_greedy, golden[i][1].get<bool>()) << what << i;
  }
}

/// What lm_eval 0.4.13 said and computed of the same documents, through `comet serve`
/// (tools/lm_eval_agreement.py --golden).
void expect_golden(const char* file, int64_t num_shots) {
  const std::string path = std::string(kData) + "/" + file;
  const Json golden = parse_json(io::read_file(path, 1 << 24).value(), path).value();
  Demo demo;
  for (const auto& [name, expected] : golden.items()) {
    const bool is_subject = name.starts_with("mmlu_");
    const LoadedTask loaded = load(is_subject ? "mmlu" : name, num_shots);
    TaskResult result = demo.run(loaded, {.max_length = 1023}).value();
    if (is_subject) {
      const auto at = std::ranges::find(result.parts, name.substr(5), &TaskResult::name);
      ASSERT_NE(at, result.parts.end());
      result = *at;
    }
    ASSERT_EQ(result.answers.size(), expected["answers"].size()) << name;
    for (size_t i = 0; i < result.answers.size(); ++i) {
      expect_answer(result.answers[i], expected["answers"][i], fmt::format("{} {} ", name, i));
    }
    for (const auto& [metric, value] : expected["metrics"].items()) {
      EXPECT_NEAR(value_of(result, metric), value.get<double>(),
                  1e-3 * std::abs(value.get<double>()))
          << name << " " << metric;
    }
  }
}

TEST(RunTask, EqualsLmEval) { expect_golden("golden.json", -1); }
TEST(RunTask, EqualsLmEvalWithShots) { expect_golden("golden_shots.json", 2); }

void expect_same(const TaskResult& a, const TaskResult& b) {
  ASSERT_EQ(a.metrics.size(), b.metrics.size());
  for (size_t m = 0; m < a.metrics.size(); ++m) {
    EXPECT_EQ(a.metrics[m].value, b.metrics[m].value);
    EXPECT_EQ(a.metrics[m].values, b.metrics[m].values);
  }
  ASSERT_EQ(a.answers.size(), b.answers.size());
  for (size_t i = 0; i < a.answers.size(); ++i) {
    EXPECT_EQ(a.answers[i].text, b.answers[i].text);
    for (size_t k = 0; k < a.answers[i].likelihoods.size(); ++k) {
      EXPECT_EQ(a.answers[i].likelihoods[k].log_prob, b.answers[i].likelihoods[k].log_prob);
    }
  }
}

TEST(RunTask, AResumedRunIsTheSame) {
  const TemporaryFolder folder;
  const std::string path = folder.file("answers.jsonl");
  Demo demo;
  // Enough for several blocks: the journal is cut in the middle of one.
  LoadedTask loaded = load("arc_easy");
  std::vector<TaskDocument>& documents = loaded.parts[0].documents;
  while (documents.size() < 24) documents.push_back(documents[documents.size() % 5]);
  for (size_t i = 0; i < documents.size(); ++i) documents[i].text += fmt::format(" ({})", i);
  RunOptions options{.block_tokens = 600, .model_key = "m"};
  const TaskResult expected = demo.run(loaded, options).value();
  {
    const auto journal = AnswerJournal::open(path).value();
    options.journal = journal.get();
    expect_same(demo.run(loaded, options).value(), expected);
  }
  const std::string whole = folder.read("answers.jsonl");
  ASSERT_GT(std::ranges::count(whole, '\n'), 3);
  for (const size_t length : {whole.size() - 7, whole.find('\n') + 40, size_t{5}, size_t{0}}) {
    folder.write("answers.jsonl", whole.substr(0, length));
    const auto journal = AnswerJournal::open(path).value();
    options.journal = journal.get();
    expect_same(demo.run(loaded, options).value(), expected);
    EXPECT_EQ(folder.read("answers.jsonl"), whole) << length;
  }
  // Answers of another model are not taken, and its own are added.
  {
    const auto journal = AnswerJournal::open(path).value();
    options.journal = journal.get();
    options.model_key = "other";
    loaded.parts[0].documents.resize(3);
    ASSERT_TRUE(demo.run(loaded, options).ok());
    EXPECT_GT(folder.read("answers.jsonl").size(), whole.size());
  }
}

TEST(RunTask, TextsResumeToo) {
  const TemporaryFolder folder;
  Demo demo;
  RunOptions options{.max_length = 400};
  const LoadedTask loaded = load("gsm8k", 1);
  const TaskResult expected = demo.run(loaded, options).value();
  for (int i = 0; i < 2; ++i) {
    const auto journal = AnswerJournal::open(folder.file("a")).value();
    options.journal = journal.get();
    expect_same(demo.run(loaded, options).value(), expected);
  }
  EXPECT_EQ(std::ranges::count(folder.read("a"), '\n'), 2);
}

TEST(RunTask, ThreadsChangeNothing) {
  const LoadedTask loaded = load("hellaswag");
  expect_same(Demo(1).run(loaded, {}).value(), Demo(2).run(loaded, {}).value());
}

TEST(RunTask, ProgressEndsAtTheTotal) {
  int64_t last = -1;
  int64_t total = 0;
  RunOptions options;
  options.on_tokens = [&](int64_t num_done, int64_t num_all) {
    EXPECT_GT(num_done, last);
    last = num_done;
    total = num_all;
  };
  ASSERT_TRUE(Demo().run(load("piqa"), options).ok());
  EXPECT_EQ(last, total);
  EXPECT_GT(total, 0);
}

TEST(RunTask, RefusesWhatItCannot) {
  Demo demo;
  EXPECT_EQ(demo.run(load("piqa"), {.max_length = 5000}).error().message,
            "--max-length 5000: expected 2 to 1024, the model's context");
  LoadedTask programs{find_task("humaneval"), {{"", {TaskDocument{.text = "def f():\n"}}}}, 0};
  EXPECT_NE(demo.run(programs, {}).error().message.find("--allow-code-execution"),
            std::string::npos);
}

TEST(RunTask, RunsProgramsWhereAllowed) {
  if (!Sandbox::create(false).ok()) GTEST_SKIP() << "no namespaces here";
  TaskDocument fails;
  fails.text = "def f():\n    return 1\n";
  fails.target = "assert False";
  LoadedTask programs{find_task("humaneval"), {{"", {fails, fails}}}, 0};
  const TaskResult result = Demo().run(programs, {.max_length = 64, .run_programs = true}).value();
  EXPECT_EQ(value_of(result, "pass@1"), 0.0);
  EXPECT_EQ(result.num_samples, 2);
}

TEST(AnswerJournal, LeavesOtherFilesAlone) {
  const TemporaryFolder folder;
  const std::string path = folder.write("notes.txt", "my notes\n");
  EXPECT_NE(AnswerJournal::open(path).error().message.find("not a file of answers"),
            std::string::npos);
  EXPECT_EQ(folder.read("notes.txt"), "my notes\n");
  folder.write("notes.txt", "{\"comet_answers\":1}\n{\"key\": 3}\n");
  EXPECT_TRUE(AnswerJournal::open(path).error().message.starts_with(path + ":2: "));
  EXPECT_FALSE(AnswerJournal::open(folder.path()).ok());
}

TEST(Figures, ThePooledMeanIsWeightedAndTiesGoToTheFirst) {
  const Task& task = *find_task("mmlu");
  ThreadPool pool(1);
  std::vector<TaskResult> parts;
  for (const size_t size : {2, 6}) {
    TaskPart part;
    std::vector<Answer> answers;
    for (size_t i = 0; i < size; ++i) {
      part.documents.push_back({.choices = {"A", "B"}, .gold = i % 2 == 0 ? 0 : 1});
      answers.push_back({{{-1.0, false}, {-1.0, false}}, ""});  // a tie: the first
    }
    if (size == 6) answers[1].likelihoods[1].log_prob = -0.5;
    parts.push_back(part_figures(pool, task, part, answers, {}));
  }
  EXPECT_EQ(value_of(parts[0], "acc"), 0.5);
  EXPECT_NEAR(value_of(parts[1], "acc"), 4.0 / 6, 1e-15);
  const double s0 = parts[0].metrics[0].std_error;
  const double s1 = parts[1].metrics[0].std_error;
  const TaskResult group = group_figures(task, parts);
  EXPECT_NEAR(value_of(group, "acc"), 5.0 / 8, 1e-15);
  EXPECT_NEAR(group.metrics[0].std_error, std::sqrt((2 * s0 * s0 + 30 * s1 * s1) / 6 / 8), 1e-15);
}

TEST(Figures, NormalizedAccuracyDividesByCharacters) {
  const Task& task = *find_task("arc_easy");
  ThreadPool pool(1);
  TaskPart part;
  // Per character the second is likelier, per byte the first: é has two bytes.
  part.documents.push_back({.choices = {"\xC3\xA9\xC3\xA9\xC3\xA9", "abcd"}, .gold = 1});
  const std::vector<Answer> answers{{{{-3.0, false}, {-3.9, false}}, ""}};
  const TaskResult result = part_figures(pool, task, part, answers, {});
  EXPECT_EQ(value_of(result, "acc"), 0.0);
  EXPECT_EQ(value_of(result, "acc_norm"), 1.0);
  EXPECT_EQ(value_of(result, "acc_bytes"), 0.0);
  EXPECT_TRUE(std::isnan(result.metrics[0].std_error));
}

}  // namespace
}  // namespace comet::study
