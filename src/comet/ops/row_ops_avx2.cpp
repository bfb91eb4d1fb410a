#include "comet/ops/row_ops_simd.h"

namespace comet {

const RowOps kRowOpsAvx2 = kRowOpsOfThisFile;

}  // namespace comet
