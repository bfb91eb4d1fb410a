// Rows of the residual stream by index: those whose logits are wanted.
#pragma once

#include <cstdint>
#include <span>

#include "comet/ops/context.h"
#include "comet/tensor/rows.h"

namespace comet {

/// out [indices, n] = x[row_idxs] + delta[row_idxs]; delta is empty or of x's size.
void gather_rows(Context& ctx, View<float, 2> out, View<const float, 2> x, ConstRows delta,
                 std::span<const int32_t> row_idxs);
/// The slot of the CPU tables.
void gather_rows_cpu(Context& ctx, View<float, 2> out, View<const float, 2> x, ConstRows delta,
                     std::span<const int32_t> row_idxs);

}  // namespace comet
