// Products of many FP32 rows on the CPU with weights that were packed once at load: what the 1×1
// convolutions of image classifiers are. Bias, GELU and the addition to a residual are part of the
// product; of an MLP the rows between the two products stay in the cache. Callers: formats/dense.
#pragma once

#include "comet/ops/context.h"
#include "comet/ops/packed_product/packed_tile.h"

namespace comet {

/// What an instruction set does; sets without tiles of their own use the next lower one's.
const PackedIsa& packed_isa(CpuIsa isa);

/// A weight [n, k] as panels of columns, [k][width] each, behind one another; the last is half as
/// wide where that is enough. The width is that of ctx.caps.cpu_isa.
struct PackedWeights {
  const float* panels = nullptr;  // at a cache line
  const float* bias = nullptr;    // [n]; null: none
  int64_t n = 0;
  int64_t k = 0;
};

/// Floats of a packed weight [n, k].
int64_t packed_weight_size(const Caps& caps, int64_t n, int64_t k);
/// Writes packed_weight_size() floats.
void pack_weights(const Caps& caps, float* panels, View<const float, 2> weight);

/// out [rows, n] = end(x [rows, k] · weightᵀ + bias). A row's bits depend neither on the number of
/// rows nor on that of threads.
void packed_product(Context& ctx, View<float, 2> out, View<const float, 2> x,
                    const PackedWeights& weights, PackedEnd end);
/// to += fc2(GELU(fc1(x))); the bits of two packed_product, whether that is how it is done or not.
/// `to` and x do not overlap.
void packed_mlp(Context& ctx, View<float, 2> to, View<const float, 2> x, const PackedWeights& fc1,
                const PackedWeights& fc2);

}  // namespace comet
