// Products whose weights are read as FP32 and changed at load: a batch norm before or behind a
// product, or a layer scale behind it, becomes part of its weights and bias, so that inference runs
// none of them. Callers: image_layers.h, models/vision.
#pragma once

#include <string>
#include <vector>

#include "comet/nn/linear.h"

namespace comet::nn {

/// A float tensor of this shape, widened to FP32.
Result<std::vector<float>> load_floats(const std::string& name, const Shape& shape,
                                       const formats::TensorSource& tensors);

/// y = scale · x + shift for every channel.
struct ChannelAffine {
  std::vector<double> scale;
  std::vector<double> shift;
};

/// prefix + {weight, bias, running_mean, running_var}: what a batch norm does at inference (Ioffe,
/// Szegedy 2015).
Result<ChannelAffine> load_batch_norm(const std::string& prefix, int64_t channels, double eps,
                                      const formats::TensorSource& tensors);
/// y = scale · x of one tensor.
Result<ChannelAffine> load_layer_scale(const std::string& name, int64_t channels,
                                       const formats::TensorSource& tensors);

/// y [n] = weight [n, k] · x + bias, on its way to a Linear.
struct FloatLinear {
  std::string name;
  int64_t n = 0;
  int64_t k = 0;
  std::vector<float> weight;
  std::vector<float> bias;

  /// prefix + {weight, bias}. weight_shape is that of the stored tensor: [n, k], or a convolution's
  /// [n, channels, height, width], which becomes [n, height · width · channels]: the order in which
  /// gather_patches lays pixels.
  static Result<FloatLinear> load(const std::string& prefix, const Shape& weight_shape,
                                  const formats::TensorSource& tensors);

  /// Applies `affine` to x first; element i of x is of channel i modulo their number.
  void fold_input(const ChannelAffine& affine);
  /// Applies `affine` to y.
  void fold_output(const ChannelAffine& affine);

  /// Plans the kernel of a dense linear that has these values.
  [[nodiscard]] Result<Linear> plan(const Caps& caps) const;
};

}  // namespace comet::nn
