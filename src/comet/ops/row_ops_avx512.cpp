#include "comet/ops/row_ops_simd.h"

namespace comet {

const RowOps kRowOpsAvx512 = kRowOpsOfThisFile;

}  // namespace comet
