// Answers to figures: what each document scored, and means with standard errors. Caller:
// run_task.cpp.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "comet/study/tasks/run_task.h"

namespace comet::study {

/// Of one part; `passed` says of each document whether its program passed (kProgram).
TaskResult part_figures(ThreadPool& pool, const Task& task, const TaskPart& part,
                        std::span<const Answer> answers, std::span<const uint8_t> passed);
/// Of a task whose parts are pooled by size.
TaskResult group_figures(const Task& task, std::vector<TaskResult> parts);

}  // namespace comet::study
