// GELU by the error function (Hendrycks, Gimpel 2016): x · Φ(x), Φ the normal distribution.
#pragma once

#include "comet/ops/context.h"
#include "comet/tensor/rows.h"

namespace comet {

/// out and x [rows, n] (may be the same). Within 4e-7 · max(1, |x|) of the exact value in FP32.
void gelu(Context& ctx, Rows out, ConstRows x);
/// The slot of the CPU tables.
void gelu_cpu(Context& ctx, Rows out, ConstRows x);

}  // namespace comet
