#include "comet/kv/attend/attend_simd.h"

namespace comet::kv {

const KvKernelSet kKvKernelsPortable = kKvKernelsOfThisFile;

}  // namespace comet::kv
