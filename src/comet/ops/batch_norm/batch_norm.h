// Batch norm in training (Ioffe, Szegedy 2015): every channel by the mean and variance of the whole
// batch. x [rows, channels] has a row per pixel. Inference folds it instead (nn/folding.h).
#pragma once

#include "comet/ops/context.h"
#include "comet/ops/layer_norm/layer_norm_backward.h"
#include "comet/tensor/rows.h"

namespace comet {

/// All [channels], FP32 on every device.
struct BatchNormWeights {
  View<const float, 1> weight;
  View<const float, 1> bias;
  float eps = 0.0F;
};

/// What the forward pass leaves for the backward one: mean and 1 / √(variance + eps), the variance
/// over all rows without Bessel's correction.
struct BatchMoments {
  View<float, 1> mean;
  View<float, 1> inv_std;
};

/// running = (1 − momentum) · running + momentum · of the batch; the variance with Bessel's
/// correction, as PyTorch does.
struct RunningMoments {
  View<float, 1> mean;
  View<float, 1> variance;
  float momentum = 0.0F;
};

/// `moments` and `running` from x; at least 2 rows. Sums are centred or compensated: a mean that is
/// large beside the deviation costs no digits. x empty: `moments` are the running ones, which stay.
void batch_moments(Context& ctx, const BatchMoments& moments, const RunningMoments& running,
                   ConstRows x, float eps);
/// out (may be x) = (x − mean) · inv_std · weight + bias.
void batch_norm(Context& ctx, Rows out, ConstRows x, const BatchMoments& moments,
                const BatchNormWeights& norm);
/// dx (may be dy) = what dy is of x, through the moments, too; `grads` += those of weight and bias.
/// The same bits whatever the number of threads.
void batch_norm_backward(Context& ctx, Rows dx, const NormGrads& grads, ConstRows dy, ConstRows x,
                         const BatchMoments& moments, const BatchNormWeights& norm);

// The slots of the CPU tables.
void batch_moments_cpu(Context& ctx, const BatchMoments& moments, const RunningMoments& running,
                       ConstRows x, float eps);
void batch_norm_cpu(Context& ctx, Rows out, ConstRows x, const BatchMoments& moments,
                    const BatchNormWeights& norm);
void batch_norm_backward_cpu(Context& ctx, Rows dx, const NormGrads& grads, ConstRows dy,
                             ConstRows x, const BatchMoments& moments,
                             const BatchNormWeights& norm);

}  // namespace comet
