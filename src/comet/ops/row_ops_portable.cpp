#include "comet/ops/row_ops_simd.h"

namespace comet {

const RowOps kRowOpsPortable = kRowOpsOfThisFile;

}  // namespace comet
