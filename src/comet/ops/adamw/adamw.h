// AdamW (Loshchilov, Hutter 2019) on a flat run of parameters, the norm that guards it, and a
// moving average of weights. What changes from step to step lies in the device's memory, so that a
// step can be a CUDA graph. Callers: train.
#pragma once

#include "comet/ops/context.h"
#include "comet/tensor/rows.h"

namespace comet {

/// [n] each, FP32; `shadow` [1, n] in BF16 is what a GPU multiplies with, written after the step;
/// empty: none.
struct AdamWParameters {
  View<float, 1> value;
  View<const float, 1> grad;
  View<float, 1> first;   // moving mean of grad
  View<float, 1> second;  // moving mean of grad²
  Rows shadow;
};

/// As PyTorch's AdamW: value ·= 1 − lr · weight_decay; value −= lr / correction1 · first /
/// (√(second / correction2) + eps), correctionᵢ = 1 − betaᵢᵗ.
struct AdamWSettings {
  float beta1 = 0.9F;
  float beta2 = 0.999F;
  float eps = 1e-8F;
  float weight_decay = 0.0F;
  float max_grad_norm = 0.0F;  // grad ·= min(1, this / norm); 0: no clipping
  /// {lr, correction1, correction2} of this step.
  View<const float, 1> schedule;
  /// [1]: Σ grad² over all parameters. Where it is not finite nothing is changed.
  View<const float, 1> squared_norm;
};

void adamw(Context& ctx, const AdamWParameters& parameters, const AdamWSettings& settings);
/// sum [1] = Σ x². The same bits whatever the number of threads.
void squared_norm(Context& ctx, View<float, 1> sum, View<const float, 1> x);
/// average = decay · average + (1 − decay) · x, where guard [1] is finite.
void moving_average(Context& ctx, View<float, 1> average, View<const float, 1> x, float decay,
                    View<const float, 1> guard);

// The slots of the CPU tables.
void adamw_cpu(Context& ctx, const AdamWParameters& parameters, const AdamWSettings& settings);
void squared_norm_cpu(Context& ctx, View<float, 1> sum, View<const float, 1> x);
void moving_average_cpu(Context& ctx, View<float, 1> average, View<const float, 1> x, float decay,
                        View<const float, 1> guard);

}  // namespace comet
