#include "comet/kv/attend/attend_simd.h"

namespace comet::kv {

const KvKernelSet kKvKernelsAvx512 = kKvKernelsOfThisFile;

}  // namespace comet::kv
