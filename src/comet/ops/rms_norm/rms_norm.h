// Root mean square norm of rows (Zhang, Sennrich 2019): out = x · rsqrt(mean(x²) + eps) · weight.
#pragma once

#include "comet/ops/context.h"
#include "comet/tensor/view.h"

namespace comet {

/// out and x [rows, n] (may be the same), weight [n].
void rms_norm(Context& ctx, View<float, 2> out, View<const float, 2> x, View<const float, 1> weight,
              float eps);
/// The same in place on every head of x [rows, heads, n], one weight [n] for all (Qwen3's q and k
/// norm).
void rms_norm(Context& ctx, View<float, 3> x, View<const float, 1> weight, float eps);
/// The slot of the CPU tables.
void rms_norm_cpu(Context& ctx, View<float, 2> out, View<const float, 2> x,
                  View<const float, 1> weight, float eps);

}  // namespace comet
