// The slots of a GPU's OpTable that work on images. Caller: op_table_cuda.cpp.
#pragma once

#include "comet/ops/op_table.h"

namespace comet::ops_cuda {

void fill_image_slots(OpTable& table);

}  // namespace comet::ops_cuda
