// The tasks of `comet eval` as lm-evaluation-harness (0.4.13) defines them: one record each, in one
// table (task_table.cpp). load_task() turns a data folder into documents with whole prompts;
// run.h scores them. Callers: eval, the study runner.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "comet/base/result.h"
#include "comet/study/tasks/data/rows.h"

namespace comet::study {

/// How the documents of a task are answered, and what is counted.
enum class TaskKind {
  kMultipleChoice,  // the likeliest choice: acc, acc_norm, acc_bytes
  kTrueMass,        // acc: the probability mass of the true choices among all (truthfulqa_mc2)
  kLastWord,        // the target's likelihood: perplexity; acc: it is what greedy decoding gives
  kExactMatch,      // a number in a greedy continuation (gsm8k)
  kProgram,         // a greedy continuation that is run with tests (humaneval)
};

/// One document. The model reads `prefix + text`, or `prefix + choices[i]` where choices are
/// contexts (winogrande), and goes on with " " + choice, or with `target`.
struct TaskDocument {
  std::string prefix = {};  // description and few-shot examples
  std::string text = {};
  std::vector<std::string> choices = {};
  std::vector<uint8_t> is_true = {};  // of each choice: kTrueMass
  int64_t gold = -1;                  // of the choices
  /// winogrande: the common continuation; lambada: " word"; gsm8k: the solution; humaneval: the
  /// tests behind the program.
  std::string target = {};
  std::string source = {};  // "file:line"
};

struct Task {
  std::string_view name;
  std::string_view summary;
  TaskKind kind = TaskKind::kMultipleChoice;
  bool has_acc_norm = false;
  bool choices_are_contexts = false;
  /// Under the data folder; the first that exists is read. "{}" is a subject's name (mmlu).
  std::array<std::string_view, 3> files{};
  std::array<std::string_view, 3> shot_files{};  // all empty: no few-shot examples
  int64_t default_shots = 0;
  bool takes_first_shots = false;    // lm-eval's sampler first_n; else its random default
  bool draws_one_shot_more = false;  // lm-eval: tasks without a test split, against the document
  Result<TaskDocument> (*read)(const DataRow& row) = nullptr;
  int64_t max_tokens = 0;  // of a continuation
  std::span<const std::string_view> stops{};
};

/// Every task, in the order in which they are printed.
std::span<const Task> tasks();
/// By name or another name (lambada); nullptr when there is none.
const Task* find_task(std::string_view name);
/// "arc_easy, arc_challenge, …".
std::string task_names();

/// A task with its documents; mmlu: each subject.
struct TaskPart {
  std::string name;  // of the subject; empty for tasks of one part
  std::vector<TaskDocument> documents;
};
struct LoadedTask {
  const Task* task = nullptr;
  std::vector<TaskPart> parts;
  int64_t num_shots = 0;
};

struct TaskData {
  std::string directory;
  int64_t limit = 0;       // documents of a part; 0: all
  int64_t num_shots = -1;  // −1: what the task is known with
};

/// kNotFound names the file that is missing; kCorrupt the line that is wrong; kInvalidArgument a
/// number of shots that the task cannot have.
Result<LoadedTask> load_task(const Task& task, const TaskData& data);

}  // namespace comet::study
