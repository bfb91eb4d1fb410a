// Blocked Cholesky factorization: what GPTQ inverts Hessians with. Panels of columns are factored
// in FP64; what they take from the columns behind them is a sum of FP32 products, subtracted in
// FP64 (relative to the diagonal an error of some 1e-7, as the Hessian itself has). Bit-identical
// for any number of threads.
#pragma once

#include "comet/quant/weights/symmetric_matrix.h"

namespace comet::quant {

/// Overwrites `a` with L, a = L·Lᵀ. False when a is not positive definite.
bool cholesky(Context& ctx, SymmetricMatrix& a);

}  // namespace comet::quant
