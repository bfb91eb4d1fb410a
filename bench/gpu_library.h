// The peers of a weight product: the same [m, k] · [n, k]ᵀ by cuBLASLt in its other types, timed as
// our kernels are, in the same run. Caller: `comet bench gemm --device cuda`.
#pragma once

#include "bench/gpu_timer.h"

namespace comet::bench {

struct ProductShape {
  int64_t m = 0;
  int64_t n = 0;
  int64_t k = 0;
};

/// Nothing where cuBLASLt is missing or has no algorithm for the shape.
struct LibraryTimes {
  std::optional<double> bf16_us;
  std::optional<double> fp8_us;      // one scale per tensor, sums of its quick mode
  std::optional<double> fp8_row_us;  // scales per token and output channel
  std::optional<double> int8_us;     // INT32 out
};

/// Weights rotate beyond L2; values are Gaussian. options.num_buffers is not read.
LibraryTimes time_library(Context& ctx, const ProductShape& shape, const GpuTimerOptions& options);

}  // namespace comet::bench
