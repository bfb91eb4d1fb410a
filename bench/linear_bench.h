// Times of a linear's product and of making its input. Caller: `comet bench gemm`.
#pragma once

#include "bench/gpu_timer.h"
#include "bench/linear_weights.h"

namespace comet::bench {

struct LinearTiming {
  double us = 0;        // the product alone
  double input_us = 0;  // making its input from FP32 rows
  GpuState state;
};

/// On a CPU the best mean over a pass through the copies (a part of them where one pass is long);
/// on a GPU the median of graph replays, at least `repeats`.
LinearTiming time_linear(Context& ctx, const std::vector<formats::LinearWeight>& copies,
                         const formats::LinearKernel& kernel, int64_t rows, int repeats);

}  // namespace comet::bench
