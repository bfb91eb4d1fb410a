// The accuracy tasks of `comet eval`: their options, how they are run and how their results leave
// the program. Caller: eval.cpp.
#pragma once

#include <cstdint>
#include <string>

#include "apps/comet/command.h"
#include "comet/study/tasks/run_task.h"

namespace comet::cli {

struct TaskFlags {
  int64_t num_shots = -1;  // −1: each task's own
  bool add_bos = false;
  bool run_programs = false;
  bool without_namespaces = false;
  bool log_samples = false;
  std::string resume;  // file; empty: nothing is kept
};
void add_task_flags(CLI::App& command, TaskFlags& flags);

/// What tells a model folder, as it is now and as it is run, from others.
std::string model_key(const std::string& directory, const Context& ctx, const std::string& kv_name);

struct TaskRun {
  Context& ctx;
  const OpenedModel& opened;
  study::RunOptions options;  // all but the progress
  bool quiet = false;
  bool log_samples = false;
};
Result<Json> run_accuracy_task(const TaskRun& run, const study::LoadedTask& loaded);
void print_accuracy(const std::string& task, const Json& result);

}  // namespace comet::cli
