// The training operators of a CPU. Callers: op_table.cpp.
#pragma once

#include "comet/ops/training_ops.h"

namespace comet {

TrainingOps cpu_training_ops();

}  // namespace comet
