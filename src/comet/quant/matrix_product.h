// C = A·Bᵀ through the dense format's kernels: what calibration spends its time on. Callers:
// activation_clip, hessian, the report. Bit-identical for any number of threads.
#pragma once

#include "comet/ops/context.h"
#include "comet/quant/matrix.h"

namespace comet::quant {

/// [a.rows, b.rows]; a and b have the same number of columns.
Matrix matrix_product(Context& ctx, const Matrix& a, const Matrix& b);

}  // namespace comet::quant
