// run_task(): a model's answers to a task's documents, and the figures that
// lm-evaluation-harness makes of them. Callers: eval, the study runner. Figures depend on the
// model, the documents and the options: not on threads, batches or whether the run was resumed.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "comet/models/llama.h"
#include "comet/study/tasks/answer_journal.h"
#include "comet/study/tasks/score/likelihood.h"
#include "comet/study/tasks/task.h"
#include "comet/text/tokenizer.h"

namespace comet::study {

struct RunOptions {
  int64_t max_length = 0;  // tokens of prompt and answer; 0: the context, at most 2,048
  bool add_bos = false;    // before every prompt what the tokenizer puts there (lm-eval's
                           // add_bos_token); without it prompts begin with their text
  std::vector<int32_t> eos_tokens = {};  // end a continuation; empty: the model config's
  /// kProgram: run what the model wrote. Without it such a task is an error.
  bool run_programs = false;
  bool without_namespaces = false;  // also where the system permits no isolation: sandbox.h
  AnswerJournal* journal = nullptr;
  int64_t block_tokens = 16384;  // of the questions that are kept at once
  std::string model_key = {};    // what tells this model from others in the journal
  std::function<void(int64_t num_done, int64_t num_all)> on_tokens = {};  // progress; may be empty
};

/// What a model said to one document: likelihoods of its choices (or of its target), or a text.
struct Answer {
  std::vector<Likelihood> likelihoods;
  std::string text;
};

struct TaskMetric {
  std::string name;  // "acc", "acc_norm", …
  double value = 0;
  double std_error = 0;        // NaN: has none
  std::vector<double> values;  // of each document; empty for a group
};

struct TaskResult {
  std::string name;
  std::vector<TaskMetric> metrics;
  int64_t num_samples = 0;
  std::vector<Answer> answers;    // of each document; empty for a group
  std::vector<TaskResult> parts;  // mmlu: its subjects
};

/// kInvalidArgument: a program task without run_programs, or an impossible length. kCorrupt: the
/// model gives NaN.
Result<TaskResult> run_task(Context& ctx, const models::LlamaModel& model,
                            const text::Tokenizer& tokenizer, const LoadedTask& loaded,
                            const RunOptions& options);

}  // namespace comet::study
