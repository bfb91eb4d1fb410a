// run_with of kernels whose epilogue knows no ends: the product, then GELU or the sum as a launch
// of its own. Callers: tables of kernels in the formats' backend_cuda.cpp.
#pragma once

#include "comet/formats/format.h"

namespace comet::formats::cuda {

using RunLinear = void (*)(Context& ctx, const LinearWeight& weight, const Activation& x, Rows out);

/// The product that is added is rounded to the type of out first.
void run_then_end(Context& ctx, const LinearWeight& weight, const Activation& x, Rows out,
                  LinearEnd end, RunLinear run);

template <RunLinear kRun>
void run_with_end(Context& ctx, const LinearWeight& weight, const Activation& x, Rows out,
                  LinearEnd end) {
  run_then_end(ctx, weight, x, out, end, kRun);
}

}  // namespace comet::formats::cuda
