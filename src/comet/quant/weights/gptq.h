// GPTQ (Frantar et al. 2022) in its nearest-plane form: with Δ = w − q (original minus coded) the
// error to be made small is Δ·H·Δᵀ = ‖Δ·U‖², H = U·Uᵀ, U upper triangular. Columns are coded one by
// one, in descending order of diag(H); column i is rounded after adding Σ_{j<i} Δ_j·U_ji / U_ii,
// which cancels what the columns before it did. The same codes as GPTQ's running update, without an
// inverse. Columns go in blocks: what all earlier blocks carry into one is a matrix product.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "comet/base/result.h"
#include "comet/quant/weights/symmetric_matrix.h"
#include "comet/quant/weights/weight_grid.h"

namespace comet::quant {

struct FeedbackFactor {
  std::vector<int32_t> order;  // [k] stored channel that is coded i-th
  Matrix rows;                 // [k, k] row i: U_ji / U_ii for j < i
};

/// `hessian` = Σ x·xᵀ of quantized stored rows, plus `damp` times its mean diagonal; where that is
/// not positive definite, ten times more, up to three times, with a warning. `name` is the
/// linear's, for warnings and errors.
Result<FeedbackFactor> factor_hessian(Context& ctx, const SymmetricMatrix& hessian, double damp,
                                      const std::string& name);

/// codes [rows, k_padded] of `stored` on `grid`.
void code_with_feedback(Context& ctx, const Matrix& stored, const WeightGrid& grid,
                        const FeedbackFactor& factor, std::span<int8_t> codes);

}  // namespace comet::quant
