// The residual sum: x += y.
#pragma once

#include "comet/ops/context.h"
#include "comet/tensor/rows.h"

namespace comet {

/// Both [rows, n].
void add(Context& ctx, View<float, 2> x, ConstRows y);
/// The slot of the CPU tables.
void add_cpu(Context& ctx, View<float, 2> x, ConstRows y);

}  // namespace comet
