// The slots of a GPU's OpTable that work on images, and those of training. Caller:
// op_table_cuda.cpp.
#pragma once

#include "comet/ops/op_table.h"

namespace comet::ops_cuda {

void fill_image_slots(OpTable& table);
void fill_training_slots(OpTable& table);

}  // namespace comet::ops_cuda
