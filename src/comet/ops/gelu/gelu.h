// GELU by the error function (Hendrycks, Gimpel 2016): x · Φ(x), Φ the normal distribution.
#pragma once

#include "comet/ops/context.h"
#include "comet/tensor/view.h"

namespace comet {

/// x [rows, n] in place. Within 4e-7 · max(1, |x|) of the exact value.
void gelu(Context& ctx, View<float, 2> x);
/// The slot of the CPU tables.
void gelu_cpu(Context& ctx, View<float, 2> x);

}  // namespace comet
