#include "comet/kv/attend/attend_simd.h"

namespace comet::kv {

const KvKernelSet kKvKernelsAvx2 = kKvKernelsOfThisFile;

}  // namespace comet::kv
