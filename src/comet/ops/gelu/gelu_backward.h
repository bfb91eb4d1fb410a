// The gradient of gelu: dx = dy · (Φ(x) + x·φ(x)), φ the density of the normal distribution.
#pragma once

#include "comet/ops/gelu/gelu.h"

namespace comet {

/// dx (may be dy or x), dy, x [rows, n]. The factor is within 1e-6 of the exact one.
void gelu_backward(Context& ctx, Rows dx, ConstRows dy, ConstRows x);
/// The slot of the CPU tables.
void gelu_backward_cpu(Context& ctx, Rows dx, ConstRows dy, ConstRows x);

}  // namespace comet
