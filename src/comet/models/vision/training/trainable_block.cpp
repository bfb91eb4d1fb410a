#include "comet/models/vision/training/trainable_block.h"

#include "comet/ops/gelu/gelu_backward.h"
#include "comet/ops/layer_scale/layer_scale.h"

namespace comet::models {
namespace {

LayerScale scale_of(const Tensor& gamma, const Tensor& keep) {
  LayerScale scale;
  scale.gamma = gamma.view<const float, 1>();
  if (keep.defined()) scale.keep = keep.view<const float, 1>();
  return scale;
}

}  // namespace

TrainableBlock::TrainableBlock(nn::ParameterSet& set, const std::string& prefix, Parts parts,
                               const Shape& fc1_shape, const Shape& fc2_shape)
    : set_(&set),
      parts_(parts),
      fc1_(set, prefix + "mlp.fc1.", fc1_shape),
      fc2_(set, prefix + "mlp.fc2.", fc2_shape),
      gamma_(set.add(prefix + "gamma", Shape{fc2_shape[0]}, nn::ParameterLayout::kSame)) {}

Tensor TrainableBlock::forward(Context& ctx, const Tensor& x, bool training, const Tensor& keep) {
  saved_.x = x;
  saved_.keep = keep;
  const Tensor mixed = parts_.mixer.forward(ctx, x);
  saved_.normed = nn::as_rows(parts_.norm.forward(ctx, mixed, training, saved_.norm));
  saved_.hidden = fc1_.forward(ctx, saved_.normed);
  saved_.activated = nn::activations_like(ctx, saved_.hidden);
  gelu(ctx, saved_.activated, saved_.hidden);
  saved_.branch = fc2_.forward(ctx, saved_.activated);
  Tensor out = nn::activations_like(ctx, x);
  layer_scale(ctx, nn::as_rows(out), nn::as_rows(x), saved_.branch, scale_of(gamma(), keep));
  return out;
}

void TrainableBlock::backward(Context& ctx, const Tensor& dx) const {
  const ArenaScope scope(ctx.arena);
  const Tensor dbranch = nn::activations_like(ctx, saved_.branch);
  layer_scale_backward(ctx, dbranch, set_->grad(gamma_).view<float, 1>(), nn::as_rows(dx),
                       saved_.branch, scale_of(gamma(), saved_.keep));
  const Tensor dhidden = fc2_.backward(ctx, dbranch, saved_.activated);
  gelu_backward(ctx, dhidden, dhidden, saved_.hidden);
  const Tensor dnormed = fc1_.backward(ctx, dhidden, saved_.normed);
  const Tensor dmixed = parts_.norm.backward(ctx, dnormed, saved_.norm);
  parts_.mixer.backward(ctx, dx, dmixed.reshape(dx.shape()), saved_.x);
}

}  // namespace comet::models
