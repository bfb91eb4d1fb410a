#include "build_flags_kernel.h"

namespace comet {

float multiply_add_avx2(float a, float b, float c) { return a * b + c; }

}  // namespace comet
