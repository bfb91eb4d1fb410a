#include <algorithm>

#include "comet/study/tasks/readers.h"
#include "comet/study/tasks/task.h"

namespace comet::study {
namespace {

constexpr std::array<std::string_view, 3> kGsm8kStops{"Question:", "</s>", "<|im_end|>"};
constexpr std::array<std::string_view, 5> kHumanevalStops{"\nclass", "\ndef", "\n#", "\nif",
                                                          "\nprint"};

constexpr auto kTasks = std::to_array<Task>({
    {.name = "lambada_openai",
     .summary = "the last word of a passage",
     .kind = TaskKind::kLastWord,
     .files = {"lambada/lambada_test_openai.jsonl", "lambada_openai/test.jsonl",
               "lambada_openai/lambada_test_en.jsonl"},
     .read = read_lambada},
    {.name = "arc_easy",
     .summary = "science questions, easy",
     .has_acc_norm = true,
     .files = {"arc_easy/ARC-Easy-Test.jsonl", "arc_easy/test.jsonl",
               "ARC-Easy/ARC-Easy-Test.jsonl"},
     .shot_files = {"arc_easy/ARC-Easy-Train.jsonl", "arc_easy/train.jsonl",
                    "arc_easy/ARC-Easy-Dev.jsonl"},
     .read = read_arc},
    {.name = "arc_challenge",
     .summary = "science questions, hard",
     .has_acc_norm = true,
     .files = {"arc_challenge/ARC-Challenge-Test.jsonl", "arc_challenge/test.jsonl",
               "ARC-Challenge/ARC-Challenge-Test.jsonl"},
     .shot_files = {"arc_challenge/ARC-Challenge-Train.jsonl", "arc_challenge/train.jsonl",
                    "arc_challenge/ARC-Challenge-Dev.jsonl"},
     .read = read_arc},
    {.name = "hellaswag",
     .summary = "how a situation goes on",
     .has_acc_norm = true,
     .files = {"hellaswag/hellaswag_val.jsonl", "hellaswag/validation.jsonl",
               "hellaswag/val.jsonl"},
     .shot_files = {"hellaswag/hellaswag_train.jsonl", "hellaswag/train.jsonl", ""},
     .draws_one_shot_more = true,
     .read = read_hellaswag},
    {.name = "piqa",
     .summary = "how to do everyday things",
     .has_acc_norm = true,
     .files = {"piqa/valid.jsonl", "piqa/validation.jsonl", ""},
     .shot_files = {"piqa/train.jsonl", "", ""},
     .draws_one_shot_more = true,
     .read = read_piqa},
    {.name = "winogrande",
     .summary = "whom a sentence means",
     .choices_are_contexts = true,
     .files = {"winogrande/dev.jsonl", "winogrande/validation.jsonl", ""},
     .shot_files = {"winogrande/train_xl.jsonl", "winogrande/train.jsonl", ""},
     .draws_one_shot_more = true,
     .read = read_winogrande},
    {.name = "boolq",
     .summary = "yes or no, by a passage",
     .files = {"boolq/val.jsonl", "boolq/validation.jsonl", "boolq/dev.jsonl"},
     .shot_files = {"boolq/train.jsonl", "", ""},
     .draws_one_shot_more = true,
     .read = read_boolq},
    {.name = "openbookqa",
     .summary = "elementary science facts",
     .has_acc_norm = true,
     .files = {"openbookqa/test.jsonl", "", ""},
     .shot_files = {"openbookqa/train.jsonl", "", ""},
     .read = read_openbookqa},
    {.name = "mmlu",
     .summary = "57 subjects, four choices",
     .files = {"mmlu/test/{}_test.csv", "mmlu/test/{}_test.jsonl", "mmlu/test/{}.jsonl"},
     .shot_files = {"mmlu/dev/{}_dev.csv", "mmlu/dev/{}_dev.jsonl", "mmlu/dev/{}.jsonl"},
     .takes_first_shots = true,
     .read = read_mmlu},
    {.name = "truthfulqa_mc1",
     .summary = "common falsehoods, one true answer",
     .files = {"truthfulqa/mc_task.json", "truthfulqa/validation.jsonl", ""},
     .read = read_truthfulqa_mc1},
    {.name = "truthfulqa_mc2",
     .summary = "common falsehoods, several true answers",
     .kind = TaskKind::kTrueMass,
     .files = {"truthfulqa/mc_task.json", "truthfulqa/validation.jsonl", ""},
     .read = read_truthfulqa_mc2},
    {.name = "gsm8k",
     .summary = "grade-school mathematics, worked out",
     .kind = TaskKind::kExactMatch,
     .files = {"gsm8k/test.jsonl", "", ""},
     .shot_files = {"gsm8k/train.jsonl", "gsm8k/fewshot_train64.jsonl", ""},
     .default_shots = 5,
     .read = read_gsm8k,
     .max_tokens = 256,
     .stops = kGsm8kStops},
    {.name = "humaneval",
     .summary = "Python functions, run with their tests",
     .kind = TaskKind::kProgram,
     .files = {"humaneval/HumanEval.jsonl.gz", "humaneval/HumanEval.jsonl", "humaneval/test.jsonl"},
     .read = read_humaneval,
     .max_tokens = 1024,
     .stops = kHumanevalStops},
});

}  // namespace

std::span<const Task> tasks() { return kTasks; }

const Task* find_task(std::string_view name) {
  if (name == "lambada") name = "lambada_openai";
  const auto at = std::find_if(kTasks.begin(), kTasks.end(),
                               [&](const Task& task) { return task.name == name; });
  return at == kTasks.end() ? nullptr : &*at;
}

std::string task_names() {
  std::string names;
  for (const Task& task : kTasks) names += (names.empty() ? "" : ", ") + std::string(task.name);
  return names;
}

}  // namespace comet::study
