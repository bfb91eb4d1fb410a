// From a row of a data file to a document: the prompts of lm-evaluation-harness's task files. One
// function a task; each takes the layout of the original release and Hugging Face's. Caller: the
// table of tasks.
#pragma once

#include "comet/study/tasks/task.h"

namespace comet::study {

Result<TaskDocument> read_arc(const DataRow& row);
Result<TaskDocument> read_hellaswag(const DataRow& row);
Result<TaskDocument> read_piqa(const DataRow& row);
Result<TaskDocument> read_winogrande(const DataRow& row);
Result<TaskDocument> read_boolq(const DataRow& row);
Result<TaskDocument> read_openbookqa(const DataRow& row);
Result<TaskDocument> read_mmlu(const DataRow& row);
Result<TaskDocument> read_truthfulqa_mc1(const DataRow& row);
Result<TaskDocument> read_truthfulqa_mc2(const DataRow& row);
Result<TaskDocument> read_lambada(const DataRow& row);
Result<TaskDocument> read_gsm8k(const DataRow& row);
Result<TaskDocument> read_humaneval(const DataRow& row);

}  // namespace comet::study
