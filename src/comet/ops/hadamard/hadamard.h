// The Hadamard transform on rows. Callers: kv (rotated caches).
#pragma once

#include "comet/ops/context.h"
#include "comet/tensor/view.h"

namespace comet {

/// The n-point transform of docs/formats.md §1 on each row of x [tokens, heads, n] in place; n is a
/// power of two. The same bits on every instruction set.
void hadamard(Context& ctx, View<float, 3> x);

}  // namespace comet
