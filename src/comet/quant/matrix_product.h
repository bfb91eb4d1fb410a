// C = A·Bᵀ through the dense format's kernels: what calibration and GPTQ spend their time on.
// Callers: activation_clip, weights/, the report. Bit-identical for any number of threads.
#pragma once

#include "comet/ops/context.h"
#include "comet/quant/matrix.h"

namespace comet::quant {

/// [a.rows, b.rows]; a and b have the same number of columns.
Matrix matrix_product(Context& ctx, const Matrix& a, const Matrix& b);

/// The same for rows of `a` that may lie apart and a contiguous `b`, in ctx.arena: for callers that
/// take a large product piece by piece.
Tensor product_in_arena(Context& ctx, View<const float, 2> a, View<const float, 2> b);

}  // namespace comet::quant
