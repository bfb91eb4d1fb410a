// Layers of convolutional networks on NHWC images: what models/vision is built of. A layer reads
// its tensors under PyTorch's names and shapes and lays them as its operator wants them; a GPU's
// are moved there once, before the first use. Outputs live in ctx.arena, in the type that the
// device's products have; weights of norms and depthwise kernels are FP32.
#pragma once

#include <string>

#include "comet/nn/folding.h"
#include "comet/ops/inception_mixer/inception_mixer.h"
#include "comet/ops/layer_norm/layer_norm.h"

namespace comet::nn {

/// images [n, height, width, channels] as a matrix with a row per pixel.
Tensor pixel_rows(const Tensor& images);

class LayerNorm {
 public:
  /// prefix + {weight, bias}.
  static Result<LayerNorm> load(const std::string& prefix, int64_t size, float eps,
                                const formats::TensorSource& tensors);
  [[nodiscard]] LayerNormWeights weights() const;
  void move_to_device(Context& ctx);
  /// The norm of every row of x [rows, size], in place.
  void operator()(Context& ctx, const Tensor& x) const;

 private:
  Tensor weight_;
  Tensor bias_;
  float eps_ = 0.0F;
};

/// A kernel per channel, odd sizes, stride 1, zero padding that keeps the size.
class DepthwiseConv {
 public:
  /// prefix + weight [channels, 1, height, width], prefix + bias.
  static Result<DepthwiseConv> load(const std::string& prefix, const Shape& weight_shape,
                                    const formats::TensorSource& tensors);
  [[nodiscard]] DepthwiseWeights weights() const;
  void move_to_device(Context& ctx);
  Tensor operator()(Context& ctx, const Tensor& images) const;

 private:
  Tensor weight_;  // [height, width, channels]
  Tensor bias_;
};

/// The token mixer of InceptionNeXt: ops/inception_mixer.
class InceptionMixer {
 public:
  /// prefix + {dwconv_hw, dwconv_w, dwconv_h}: `branch` channels each, 3×3, 1×band and band×1.
  static Result<InceptionMixer> load(const std::string& prefix, int64_t branch, int64_t band,
                                     const formats::TensorSource& tensors);
  void move_to_device(Context& ctx);
  Tensor operator()(Context& ctx, const Tensor& images) const;

 private:
  DepthwiseConv square_;
  DepthwiseConv band_w_;
  DepthwiseConv band_h_;
};

/// A convolution whose stride is its kernel's size, without padding.
class PatchConv {
 public:
  PatchConv() = default;
  PatchConv(Linear product, int64_t size) : product_(std::move(product)), size_(size) {}
  Status move_to_device(Context& ctx) { return product_.move_to_device(ctx); }
  Tensor operator()(Context& ctx, const Tensor& images) const;
  [[nodiscard]] Linear& product() { return product_; }

 private:
  Linear product_;
  int64_t size_ = 1;
};

/// fc2(GELU(fc1(x))) on rows.
struct GeluMlp {
  Linear fc1;
  Linear fc2;
  Status move_to_device(Context& ctx);
  /// to += fc2(GELU(fc1(x))).
  void add_to(Context& ctx, const Tensor& to, const Tensor& x) const;
};

}  // namespace comet::nn
