// Layers of convolutional networks on NHWC images in FP32: what models/vision is built of. A layer
// reads its tensors under PyTorch's names and shapes and lays them as its operator wants them.
// Outputs live in ctx.arena.
#pragma once

#include <string>
#include <vector>

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
  /// The norm of every row of x [rows, size], in place.
  void operator()(Context& ctx, const Tensor& x) const;

 private:
  std::vector<float> weight_;
  std::vector<float> bias_;
  float eps_ = 0.0F;
};

/// A kernel per channel, odd sizes, stride 1, zero padding that keeps the size.
class DepthwiseConv {
 public:
  /// prefix + weight [channels, 1, height, width], prefix + bias.
  static Result<DepthwiseConv> load(const std::string& prefix, const Shape& weight_shape,
                                    const formats::TensorSource& tensors);
  [[nodiscard]] DepthwiseWeights weights() const;
  Tensor operator()(Context& ctx, const Tensor& images) const;

 private:
  Shape shape_;                // [height, width, channels]
  std::vector<float> weight_;  // of that shape
  std::vector<float> bias_;
};

/// The token mixer of InceptionNeXt: ops/inception_mixer.
class InceptionMixer {
 public:
  /// prefix + {dwconv_hw, dwconv_w, dwconv_h}: `branch` channels each, 3×3, 1×band and band×1.
  static Result<InceptionMixer> load(const std::string& prefix, int64_t branch, int64_t band,
                                     const formats::TensorSource& tensors);
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
  Tensor operator()(Context& ctx, const Tensor& images) const;

 private:
  Linear product_;
  int64_t size_ = 1;
};

/// fc2(GELU(fc1(x))) on rows.
struct GeluMlp {
  Linear fc1;
  Linear fc2;
  Tensor operator()(Context& ctx, const Tensor& x) const;
};

}  // namespace comet::nn
