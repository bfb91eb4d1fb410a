#include <gtest/gtest.h>

#include <set>

#include "comet/study/tasks/readers.h"
#include "comet/study/tasks/task.h"
#include "support/temporary_folder.h"

namespace comet::study {
namespace {

using ::comet::testing::TemporaryFolder;

constexpr const char* kData = COMET_SOURCE_DIR "/tests/data/lm_eval";

LoadedTask load(std::string_view name, int64_t num_shots = -1, int64_t limit = 0) {
  return load_task(*find_task(name), {kData, limit, num_shots}).value();
}

std::string prompt_of(const LoadedTask& loaded, size_t document_idx = 0) {
  const TaskDocument& document = loaded.parts.front().documents.at(document_idx);
  return document.prefix + document.text;
}

TaskDocument read(std::string_view task, const char* json) {
  return find_task(task)->read(DataRow(OrderedJson::parse(json), "f:1")).value();
}

TEST(Tasks, TheTableIsWhole) {
  std::set<std::string_view> names;
  for (const Task& task : tasks()) {
    EXPECT_TRUE(names.insert(task.name).second) << task.name;
    EXPECT_NE(task.read, nullptr) << task.name;
    EXPECT_FALSE(task.files.front().empty()) << task.name;
    EXPECT_TRUE(task.default_shots == 0 || !task.shot_files.front().empty()) << task.name;
    EXPECT_EQ(find_task(task.name), &task);
  }
  EXPECT_EQ(names.size(), 13U);
  EXPECT_EQ(find_task("lambada"), find_task("lambada_openai"));
  EXPECT_EQ(find_task("nothing"), nullptr);
  EXPECT_NE(task_names().find("arc_easy, arc_challenge"), std::string::npos);
}

TEST(LoadTask, PromptsAreLmEvals) {
  EXPECT_EQ(prompt_of(load("arc_easy")), "Question: What does a plant need to grow?\nAnswer:");
  EXPECT_EQ(load("arc_easy").parts[0].documents[2].gold, 2);
  EXPECT_EQ(prompt_of(load("piqa"), 1), "Question: open a jar\nAnswer:");
  EXPECT_EQ(load("piqa").parts[0].documents[1].choices[1], "turn the lid to the left ");
  EXPECT_EQ(load("piqa").parts[0].documents[1].gold, 1);
  const LoadedTask winogrande = load("winogrande");
  EXPECT_EQ(winogrande.parts[0].documents[2].choices[0], "The cat chased the mouse until the cat");
  EXPECT_EQ(winogrande.parts[0].documents[2].target, "was tired");
  EXPECT_TRUE(prompt_of(load("boolq"), 1)
                  .ends_with("they cannot fly.\nQuestion: can penguins fly?\nAnswer:"));
  EXPECT_EQ(prompt_of(load("openbookqa"), 1), "Bears sleep through the");
  const LoadedTask lambada = load("lambada");
  EXPECT_EQ(lambada.parts[0].documents[1].target, " dog");
  EXPECT_TRUE(lambada.parts[0].documents[1].text.ends_with("to find your"));
  EXPECT_EQ(lambada.parts[0].documents[3].text, "");
  EXPECT_EQ(lambada.parts[0].documents[3].target, " word");
  EXPECT_TRUE(prompt_of(load("truthfulqa_mc1"))
                  .ends_with("Barcelona, Spain.\n\nQ: Can you see the Great Wall of China from the "
                             "Moon?\nA:"));
  EXPECT_EQ(load("truthfulqa_mc2").parts[0].documents[0].is_true,
            (std::vector<uint8_t>{1, 1, 0, 0}));
  const LoadedTask mmlu = load("mmlu", 1);
  ASSERT_EQ(mmlu.parts.size(), 2U);
  EXPECT_EQ(mmlu.parts[1].name, "astronomy");
  EXPECT_EQ(mmlu.parts[1].documents[1].prefix + mmlu.parts[1].documents[1].text,
            "The following are multiple choice questions (with answers) about astronomy.\n\n"
            "The Sun is a\nA. planet\nB. star\nC. moon\nD. comet\nAnswer: B\n\n"
            "What is the Moon made of, mostly?\nA. cheese\nB. iron, \"pure\"\nC. rock\nD. water\n"
            "Answer:");
}

// Drawn by lm_eval with the same files: the goldens hold the log-probabilities of these prompts.
TEST(LoadTask, ShotsAreDrawnAsLmEvalDraws) {
  const LoadedTask loaded = load("gsm8k");
  EXPECT_EQ(loaded.num_shots, 5);
  const std::string& prefix = loaded.parts[0].documents[0].prefix;
  int64_t count = 0;
  for (size_t at = 0; (at = prefix.find("\nAnswer: Ann has ", at)) != std::string::npos; ++at)
    ++count;
  EXPECT_EQ(count, 5);
  EXPECT_NE(prefix, loaded.parts[0].documents[1].prefix);
  EXPECT_TRUE(prefix.ends_with("\n\n"));
  EXPECT_TRUE(load("gsm8k", 0).parts[0].documents[0].prefix.empty());
}

TEST(LoadTask, HuggingFaceLayoutsGiveTheSame) {
  const TaskDocument arc = read("arc_easy", R"({"id": "x", "question": "Why?", "choices":
      {"text": ["p", "q"], "label": ["1", "2"]}, "answerKey": "2"})");
  EXPECT_EQ(arc.text, "Question: Why?\nAnswer:");
  EXPECT_EQ(arc.gold, 1);
  const TaskDocument obqa = read("openbookqa", R"({"question": {"stem": "The sky is", "choices":
      [{"text": "blue", "label": "A"}, {"text": "red", "label": "B"}]}, "answerKey": " A"})");
  EXPECT_EQ(obqa.text, "The sky is");
  EXPECT_EQ(obqa.gold, 0);
  const TaskDocument hellaswag = read("hellaswag", R"({"activity_label": "How to run",
      "ctx_a": "[header] How to run [title] Begin  slowly.", "ctx_b": "the Man",
      "endings": [" [step] He runs.", "stops [substeps] at [title] once"], "label": "1"})");
  EXPECT_EQ(hellaswag.text, "How to run: How to run. Begin slowly. The man");
  EXPECT_EQ(hellaswag.choices, (std::vector<std::string>{" He runs.", "stops at. once"}));
  EXPECT_EQ(hellaswag.gold, 1);
  EXPECT_EQ(read("boolq", R"({"question": "q", "passage": "p", "answer": true})").gold, 1);
  EXPECT_EQ(read("mmlu", R"({"question": " q ", "choices": ["a","b","c","d"], "answer": 2})").text,
            "q\nA. a\nB. b\nC. c\nD. d\nAnswer:");
  EXPECT_EQ(read("mmlu", R"({"question": "q", "choice0": "a", "choice1": "b", "choice2": "c",
                             "choice3": "d", "answer": "D"})")
                .gold,
            3);
  const TaskDocument truthful = read("truthfulqa_mc2", R"({"question": "q",
      "mc2_targets": {"choices": ["x", "y"], "labels": [1, 0]}})");
  EXPECT_EQ(truthful.choices, (std::vector<std::string>{"x", "y"}));
  const TaskDocument program =
      read("humaneval", R"json({"prompt": "def f():", "test": "def check(c):\n    assert c()",
                               "entry_point": "f"})json");
  EXPECT_EQ(program.target, "def check(c):\n    assert c()\ncheck(f)");
}

std::string error_of(std::string_view task, const TaskData& data) {
  const auto loaded = load_task(*find_task(task), data);
  return loaded ? "" : loaded.error().message;
}

TEST(LoadTask, ErrorsSayWhatIsMissingOrWrong) {
  const TemporaryFolder folder;
  const std::string& path = folder.path();
  EXPECT_EQ(error_of("piqa", {path}), "piqa: no data file; expected " + path +
                                          "/piqa/valid.jsonl or " + path +
                                          "/piqa/validation.jsonl");
  EXPECT_EQ(error_of("mmlu", {path}), "mmlu: no data file; expected " + path +
                                          "/mmlu/test/SUBJECT_test.csv for each subject");
  folder.write("lambada/lambada_test_openai.jsonl", "{\"text\": \"a b\"}\n{\"txt\": 1}\n");
  EXPECT_EQ(error_of("lambada", {path}),
            path + "/lambada/lambada_test_openai.jsonl:2: no field 'text'; expected a text");
  EXPECT_EQ(error_of("lambada", {path, 0, 2}),
            "--shots 2: lambada_openai has no few-shot examples; use 0");
  folder.write("openbookqa/test.jsonl", R"({"question_stem": "q", "choices": {"text": ["a"],
      "label": ["A"]}, "answerKey": "B"})");
  EXPECT_NE(error_of("openbookqa", {path}), "");
  EXPECT_NE(error_of("gsm8k", {kData, 0, 8}).find("fewshot_train64.jsonl holds 7 examples"),
            std::string::npos);
  EXPECT_NE(error_of("piqa", {kData, 0, 1}).find("--shots 1: piqa: no data file; expected "),
            std::string::npos);
}

TEST(LoadTask, AWrongRowIsNamedByItsField) {
  const auto message = [](std::string_view task, const char* json) {
    const auto document = find_task(task)->read(DataRow(OrderedJson::parse(json), "f:1"));
    return document ? "" : document.error().message;
  };
  EXPECT_EQ(message("arc_easy", R"({"question": "q", "choices": {"text": ["a"], "label": ["A"]},
                                    "answerKey": "Z"})"),
            "f:1: field 'answerKey' is \"Z\"; expected the label of a choice");
  EXPECT_EQ(message("winogrande", R"({"sentence": "no blank"})"),
            "f:1: field 'sentence' is \"no blank\"; expected a text with a blank '_'");
  EXPECT_EQ(
      message("winogrande", R"({"sentence": "_", "option1": "a", "option2": "b", "answer": ""})"),
      "f:1: field 'answer' is \"\"; expected a number from 0 to 2");
  EXPECT_EQ(message("hellaswag", R"({"query": "q", "choices": ["a", "b"], "gold": 2})"),
            "f:1: field 'gold' is 2; expected a number from 0 to 1");
  EXPECT_EQ(message("mmlu", R"({"question": "q", "choices": ["a"], "answer": 0})"),
            "f:1: field 'choices' is [\"a\"]; expected four choices");
  EXPECT_EQ(message("truthfulqa_mc1", R"({"question": "q", "mc1_targets": {"a": "x"}})"),
            "f:1: field 'mc1_targets' is {\"a\":\"x\"}; expected answers with labels 0 or 1");
  EXPECT_NE(message("truthfulqa_mc1", R"({"question": "q", "mc1_targets": {}})"), "");
  EXPECT_NE(message("arc_easy", R"({"question": 3})"), "");
  EXPECT_NE(message("piqa", R"({"goal": "g", "sol1": "a", "sol2": "b", "label": 2})"), "");
}

}  // namespace
}  // namespace comet::study
