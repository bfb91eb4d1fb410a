// Division of small numbers by one that is known when a kernel is launched. Callers: the kernels
// over images, which find rows and columns of pixels.
#pragma once

#include <cstdint>

namespace comet::ops_cuda {

/// i / divisor for 0 ≤ i < 2²⁰: (i + ½) · inverse is off by less than ½ / divisor.
struct Divisor {
  int32_t divisor = 1;
  float inverse = 1.0F;
};

__device__ __forceinline__ int quotient(int i, const Divisor& by) {
  return static_cast<int>((static_cast<float>(i) + 0.5F) * by.inverse);
}

}  // namespace comet::ops_cuda
