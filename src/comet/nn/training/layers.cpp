#include "comet/nn/training/layers.h"

#include "comet/ops/gather_patches/gather_patches.h"
#include "comet/ops/gather_patches/scatter_patches.h"
#include "comet/ops/op_table.h"
#include "comet/ops/product/product.h"

namespace comet::nn {

Tensor activations(Context& ctx, const Shape& shape) {
  return ctx.arena.alloc(ctx.ops.product_dtype, shape);
}

Tensor activations_like(Context& ctx, const Tensor& x) { return activations(ctx, x.shape()); }

Tensor as_rows(const Tensor& x) {
  if (x.shape().rank() == 2) return x;
  return x.reshape({x.size(0) * x.size(1) * x.size(2), x.size(3)});
}

TrainableLinear::TrainableLinear(ParameterSet& set, const std::string& prefix,
                                 const Shape& weight_shape)
    : set_(&set),
      weight_(set.add(prefix + "weight", weight_shape,
                      weight_shape.rank() == 4 && weight_shape[2] * weight_shape[3] > 1
                          ? ParameterLayout::kChannelsLast
                          : ParameterLayout::kSame)),
      bias_(set.add(prefix + "bias", Shape{weight_shape[0]}, ParameterLayout::kSame)),
      n_(weight_shape[0]),
      k_(weight_shape.num_elements() / weight_shape[0]) {}

Tensor TrainableLinear::forward(Context& ctx, const Tensor& x) const {
  Tensor out = activations(ctx, {x.size(0), n_});
  forward(ctx, out, x);
  return out;
}

void TrainableLinear::forward(Context& ctx, const Tensor& out, const Tensor& x) const {
  ProductEnd end;
  end.bias = set_->value(bias_).view<const float, 1>();
  product(ctx, out, x, set_->product_value(weight_), ProductForm::kForward, end);
}

Tensor TrainableLinear::backward(Context& ctx, const Tensor& dy, const Tensor& x) const {
  backward_weights(ctx, dy, x);
  Tensor dx = activations(ctx, {dy.size(0), k_});
  product(ctx, dx, dy, set_->product_value(weight_), ProductForm::kData);
  return dx;
}

void TrainableLinear::backward_weights(Context& ctx, const Tensor& dy, const Tensor& x) const {
  ProductEnd end;
  end.add_to_out = true;
  product(ctx, set_->grad(weight_), dy, x, ProductForm::kWeight, end);
  column_sums(ctx, set_->grad(bias_).view<float, 1>(), dy);
}

Tensor TrainablePatchConv::forward(Context& ctx, const Tensor& images, Saved& saved) const {
  const int64_t height = images.size(1) / size_;
  const int64_t width = images.size(2) / size_;
  saved.input_shape = images.shape();
  saved.patches = ctx.arena.alloc(images.dtype(), {images.size(0) * height * width, product_.k()});
  gather_patches(ctx, saved.patches, images, size_);
  Tensor out = activations(ctx, {images.size(0), height, width, product_.n()});
  product_.forward(ctx, as_rows(out), saved.patches);
  return out;
}

Tensor TrainablePatchConv::backward(Context& ctx, const Tensor& dy, const Saved& saved) const {
  Tensor dx = activations(ctx, saved.input_shape);
  const ArenaScope scope(ctx.arena);
  scatter_patches(ctx, dx, product_.backward(ctx, as_rows(dy), saved.patches), size_);
  return dx;
}

void TrainablePatchConv::backward_weights(Context& ctx, const Tensor& dy,
                                          const Saved& saved) const {
  product_.backward_weights(ctx, as_rows(dy), saved.patches);
}

TrainableMixer::TrainableMixer(ParameterSet& set, const std::string& prefix, Inception sizes)
    : set_(&set), inception_(true) {
  parts_ = {add_part(prefix + "dwconv_hw.", sizes.branch, 3, 3),
            add_part(prefix + "dwconv_w.", sizes.branch, 1, sizes.band),
            add_part(prefix + "dwconv_h.", sizes.branch, sizes.band, 1)};
}

TrainableMixer::TrainableMixer(ParameterSet& set, const std::string& prefix, int64_t channels,
                               int64_t kernel)
    : set_(&set) {
  parts_[0] = add_part(prefix, channels, kernel, kernel);
}

TrainableMixer::Part TrainableMixer::add_part(const std::string& prefix, int64_t channels,
                                              int64_t height, int64_t width) const {
  return {set_->add(prefix + "weight", {channels, 1, height, width}, ParameterLayout::kDepthwise),
          set_->add(prefix + "bias", Shape{channels}, ParameterLayout::kSame)};
}

DepthwiseWeights TrainableMixer::weights(size_t part_idx) const {
  return {set_->value(parts_[part_idx].weight).view<const float, 3>(),
          set_->value(parts_[part_idx].bias).view<const float, 1>()};
}

DepthwiseGrads TrainableMixer::grads(size_t part_idx) const {
  return {set_->grad(parts_[part_idx].weight).view<float, 3>(),
          set_->grad(parts_[part_idx].bias).view<float, 1>()};
}

Tensor TrainableMixer::forward(Context& ctx, const Tensor& x) const {
  Tensor out = activations_like(ctx, x);
  if (inception_) {
    inception_mixer(ctx, out, x, {weights(0), weights(1), weights(2)});
  } else {
    depthwise_conv(ctx, out, x, weights(0));
  }
  return out;
}

void TrainableMixer::backward(Context& ctx, const Tensor& dx, const Tensor& dy,
                              const Tensor& x) const {
  if (inception_) {
    inception_mixer_backward(ctx, dx, {grads(0), grads(1), grads(2)}, dy, x,
                             {weights(0), weights(1), weights(2)});
  } else {
    depthwise_conv_backward(ctx, dx, grads(0), dy, x, weights(0));
  }
}

}  // namespace comet::nn
