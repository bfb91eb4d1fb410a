#include "comet/nn/training/layers.h"

namespace comet::nn {
namespace {

constexpr float kBatchNormEps = 1e-5F;
constexpr float kBatchNormMomentum = 0.1F;
constexpr float kLayerNormEps = 1e-6F;

}  // namespace

TrainableNorm::TrainableNorm(ParameterSet& set, const std::string& prefix, NormKind kind,
                             int64_t channels)
    : set_(&set),
      kind_(kind),
      channels_(channels),
      weight_(set.add(prefix + "weight", Shape{channels}, ParameterLayout::kSame)),
      bias_(set.add(prefix + "bias", Shape{channels}, ParameterLayout::kSame)) {
  if (kind == NormKind::kBatch) {
    running_mean_ = set.add_buffer(prefix + "running_mean", Shape{channels});
    running_variance_ = set.add_buffer(prefix + "running_var", Shape{channels});
  }
}

BatchNormWeights TrainableNorm::batch_weights() const {
  return {set_->value(weight_).view<const float, 1>(), set_->value(bias_).view<const float, 1>(),
          kBatchNormEps};
}

LayerNormWeights TrainableNorm::layer_weights() const {
  return {set_->value(weight_).view<const float, 1>(), set_->value(bias_).view<const float, 1>(),
          kLayerNormEps};
}

Tensor TrainableNorm::forward(Context& ctx, const Tensor& x, bool training, Saved& saved) const {
  Tensor out = activations_like(ctx, x);
  saved.x = x;
  if (kind_ == NormKind::kLayer) {
    layer_norm(ctx, as_rows(out), as_rows(x), layer_weights());
    return out;
  }
  saved.mean = ctx.arena.alloc(DType::kF32, {channels_});
  saved.inv_std = ctx.arena.alloc(DType::kF32, {channels_});
  const BatchMoments moments{saved.mean.view<float, 1>(), saved.inv_std.view<float, 1>()};
  const RunningMoments running{set_->buffer(running_mean_).view<float, 1>(),
                               set_->buffer(running_variance_).view<float, 1>(),
                               kBatchNormMomentum};
  const ConstRows rows = as_rows(x);
  batch_moments(ctx, moments, running, training ? rows : ConstRows(), kBatchNormEps);
  batch_norm(ctx, as_rows(out), as_rows(x), moments, batch_weights());
  return out;
}

Tensor TrainableNorm::backward(Context& ctx, const Tensor& dy, const Saved& saved) const {
  const NormGrads grads{set_->grad(weight_).view<float, 1>(), set_->grad(bias_).view<float, 1>()};
  if (kind_ == NormKind::kLayer) {
    layer_norm_backward(ctx, as_rows(dy), grads, as_rows(dy), as_rows(saved.x), layer_weights());
    return dy;
  }
  const BatchMoments moments{saved.mean.view<float, 1>(), saved.inv_std.view<float, 1>()};
  batch_norm_backward(ctx, as_rows(dy), grads, as_rows(dy), as_rows(saved.x), moments,
                      batch_weights());
  return dy;
}

}  // namespace comet::nn
