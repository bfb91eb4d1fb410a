#include "comet/nn/image_layers.h"

#include "comet/ops/gather_patches/gather_patches.h"
#include "comet/ops/gelu/gelu.h"

namespace comet::nn {

Tensor pixel_rows(const Tensor& images) {
  return images.reshape({images.size(0) * images.size(1) * images.size(2), images.size(3)});
}

Result<LayerNorm> LayerNorm::load(const std::string& prefix, int64_t size, float eps,
                                  const formats::TensorSource& tensors) {
  auto weight = load_floats(prefix + "weight", Shape{size}, tensors);
  if (!weight) return weight.error();
  auto bias = load_floats(prefix + "bias", Shape{size}, tensors);
  if (!bias) return bias.error();
  LayerNorm norm;
  norm.weight_ = *std::move(weight);
  norm.bias_ = *std::move(bias);
  norm.eps_ = eps;
  return norm;
}

LayerNormWeights LayerNorm::weights() const {
  const auto size = static_cast<int64_t>(weight_.size());
  return {{weight_.data(), {size}}, {bias_.data(), {size}}, eps_};
}

void LayerNorm::operator()(Context& ctx, const Tensor& x) const {
  layer_norm(ctx, x, x, weights());
}

Result<DepthwiseConv> DepthwiseConv::load(const std::string& prefix, const Shape& weight_shape,
                                          const formats::TensorSource& tensors) {
  const int64_t channels = weight_shape[0];
  const int64_t taps = weight_shape[2] * weight_shape[3];
  const auto weight = load_floats(prefix + "weight", weight_shape, tensors);
  if (!weight) return weight.error();
  auto bias = load_floats(prefix + "bias", Shape{channels}, tensors);
  if (!bias) return bias.error();
  DepthwiseConv conv;
  conv.shape_ = Shape{weight_shape[2], weight_shape[3], channels};
  conv.bias_ = *std::move(bias);
  conv.weight_.resize(weight->size());
  for (int64_t channel = 0; channel < channels; ++channel) {
    for (int64_t tap = 0; tap < taps; ++tap) {
      conv.weight_[static_cast<size_t>(tap * channels + channel)] =
          (*weight)[static_cast<size_t>(channel * taps + tap)];
    }
  }
  return conv;
}

DepthwiseWeights DepthwiseConv::weights() const {
  return {{weight_.data(), {shape_[0], shape_[1], shape_[2]}}, {bias_.data(), {shape_[2]}}};
}

Tensor DepthwiseConv::operator()(Context& ctx, const Tensor& images) const {
  const Tensor out = ctx.arena.alloc(DType::kF32, images.shape());
  depthwise_conv(ctx, out, images, weights());
  return out;
}

Result<InceptionMixer> InceptionMixer::load(const std::string& prefix, int64_t branch, int64_t band,
                                            const formats::TensorSource& tensors) {
  InceptionMixer mixer;
  struct Part {
    DepthwiseConv* conv;
    const char* name;
    Shape shape;
  };
  for (const Part& part : {Part{&mixer.square_, "dwconv_hw.", {branch, 1, 3, 3}},
                           Part{&mixer.band_w_, "dwconv_w.", {branch, 1, 1, band}},
                           Part{&mixer.band_h_, "dwconv_h.", {branch, 1, band, 1}}}) {
    auto loaded = DepthwiseConv::load(prefix + part.name, part.shape, tensors);
    if (!loaded) return loaded.error();
    *part.conv = *std::move(loaded);
  }
  return mixer;
}

Tensor InceptionMixer::operator()(Context& ctx, const Tensor& images) const {
  const Tensor out = ctx.arena.alloc(DType::kF32, images.shape());
  inception_mixer(ctx, out, images, {square_.weights(), band_w_.weights(), band_h_.weights()});
  return out;
}

Tensor PatchConv::operator()(Context& ctx, const Tensor& images) const {
  const int64_t n = images.size(0);
  const int64_t height = images.size(1) / size_;
  const int64_t width = images.size(2) / size_;
  const Tensor out = ctx.arena.alloc(DType::kF32, {n, height, width, product_.spec().n()});
  const ArenaScope scope(ctx.arena);
  const Tensor patches = ctx.arena.alloc(DType::kF32, {n * height * width, product_.spec().k});
  gather_patches(ctx, patches, images, size_);
  product_(ctx, patches, Rows(pixel_rows(out)));
  return out;
}

Tensor GeluMlp::operator()(Context& ctx, const Tensor& x) const {
  const Tensor hidden = fc1(ctx, x);
  gelu(ctx, hidden, hidden);
  return fc2(ctx, hidden);
}

}  // namespace comet::nn
