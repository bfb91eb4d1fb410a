// The gate of a LLaMA MLP: out = gate · sigmoid(gate) · up.
#pragma once

#include "comet/ops/context.h"
#include "comet/tensor/view.h"

namespace comet {

/// All [rows, n]; out may be gate or up.
void silu_mul(Context& ctx, View<float, 2> out, View<const float, 2> gate, View<const float, 2> up);
/// The slot of the CPU tables.
void silu_mul_cpu(Context& ctx, View<float, 2> out, View<const float, 2> gate,
                  View<const float, 2> up);

}  // namespace comet
