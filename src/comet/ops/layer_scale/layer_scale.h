// The end of a residual block: layer scale (Touvron et al. 2021) and drop path (Huang et al. 2016)
// with the shortcut. Rows are pixels; those of one image follow one another.
#pragma once

#include "comet/ops/context.h"
#include "comet/tensor/rows.h"

namespace comet {

/// gamma [n], FP32; keep [images], FP32: 0 where the image's branch is dropped, 1 / (1 − rate)
/// where it is kept; empty: 1 for all.
struct LayerScale {
  View<const float, 1> gamma;
  View<const float, 1> keep;
};

/// out (may be x) = x + keep[image] · gamma ∘ branch; all [rows, n].
void layer_scale(Context& ctx, Rows out, ConstRows x, ConstRows branch, const LayerScale& scale);
/// dbranch (may be branch) = keep[image] · gamma ∘ dy; dgamma [n] += Σ keep[image] · dy ∘ branch.
/// dx is dy. The same bits whatever the number of threads.
void layer_scale_backward(Context& ctx, Rows dbranch, View<float, 1> dgamma, ConstRows dy,
                          ConstRows branch, const LayerScale& scale);

// The slots of the CPU tables.
void layer_scale_cpu(Context& ctx, Rows out, ConstRows x, ConstRows branch,
                     const LayerScale& scale);
void layer_scale_backward_cpu(Context& ctx, Rows dbranch, View<float, 1> dgamma, ConstRows dy,
                              ConstRows branch, const LayerScale& scale);

}  // namespace comet
