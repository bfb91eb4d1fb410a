#include "comet/nn/image_layers.h"

#include <algorithm>

#include "comet/ops/gather_patches/gather_patches.h"
#include "comet/ops/op_table.h"

namespace comet::nn {
namespace {

Tensor to_tensor(const std::vector<float>& values, const Shape& shape) {
  Tensor tensor = allocate_tensor(host_allocator(), DType::kF32, shape);
  std::copy(values.begin(), values.end(), tensor.data<float>());
  return tensor;
}

}  // namespace

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
  norm.weight_ = to_tensor(*weight, {size});
  norm.bias_ = to_tensor(*bias, {size});
  norm.eps_ = eps;
  return norm;
}

LayerNormWeights LayerNorm::weights() const {
  return {weight_.view<const float, 1>(), bias_.view<const float, 1>(), eps_};
}

void LayerNorm::move_to_device(Context& ctx) {
  weight_ = copy_to_device(ctx, weight_);
  bias_ = copy_to_device(ctx, bias_);
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
  conv.bias_ = to_tensor(*bias, {channels});
  conv.weight_ =
      allocate_tensor(host_allocator(), DType::kF32, {weight_shape[2], weight_shape[3], channels});
  auto* to = conv.weight_.data<float>();
  for (int64_t channel = 0; channel < channels; ++channel) {
    for (int64_t tap = 0; tap < taps; ++tap) {
      to[tap * channels + channel] = (*weight)[static_cast<size_t>(channel * taps + tap)];
    }
  }
  return conv;
}

DepthwiseWeights DepthwiseConv::weights() const {
  return {weight_.view<const float, 3>(), bias_.view<const float, 1>()};
}

void DepthwiseConv::move_to_device(Context& ctx) {
  weight_ = copy_to_device(ctx, weight_);
  bias_ = copy_to_device(ctx, bias_);
}

Tensor DepthwiseConv::operator()(Context& ctx, const Tensor& images) const {
  const Tensor out = ctx.arena.alloc(images.dtype(), images.shape());
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

void InceptionMixer::move_to_device(Context& ctx) {
  for (DepthwiseConv* conv : {&square_, &band_w_, &band_h_}) conv->move_to_device(ctx);
}

Tensor InceptionMixer::operator()(Context& ctx, const Tensor& images) const {
  const Tensor out = ctx.arena.alloc(images.dtype(), images.shape());
  inception_mixer(ctx, out, images, {square_.weights(), band_w_.weights(), band_h_.weights()});
  return out;
}

Tensor PatchConv::operator()(Context& ctx, const Tensor& images) const {
  const int64_t n = images.size(0);
  const int64_t height = images.size(1) / size_;
  const int64_t width = images.size(2) / size_;
  const DType dtype = ctx.ops.product_dtype;
  const Tensor out = ctx.arena.alloc(dtype, {n, height, width, product_.spec().n()});
  const ArenaScope scope(ctx.arena);
  const Tensor patches = ctx.arena.alloc(dtype, {n * height * width, product_.spec().k});
  gather_patches(ctx, patches, images, size_);
  product_(ctx, patches, pixel_rows(out), formats::LinearEnd::kPlain);
  return out;
}

Status GeluMlp::move_to_device(Context& ctx) {
  if (const Status moved = fc1.move_to_device(ctx); !moved) return moved;
  return fc2.move_to_device(ctx);
}

void GeluMlp::add_to(Context& ctx, const Tensor& to, const Tensor& x) const {
  Linear::run_mlp(ctx, fc1, fc2, x, to);
}

}  // namespace comet::nn
