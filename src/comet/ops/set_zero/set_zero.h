// Zeros, for gradients before a step adds to them. Callers: train.
#pragma once

#include "comet/ops/context.h"
#include "comet/tensor/view.h"

namespace comet {

/// x [n] = 0, whatever was there.
void set_zero(Context& ctx, View<float, 1> x);
/// The slot of the CPU tables.
void set_zero_cpu(Context& ctx, View<float, 1> x);

}  // namespace comet
