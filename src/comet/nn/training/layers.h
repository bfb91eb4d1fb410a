// Trainable layers of convolutional networks on NHWC images: pairs of forward and backward. A layer
// knows its parameters in a ParameterSet; what its backward pass needs beside dy is handed to it,
// and gradients of parameters are added. Activations are of the device's product type, in
// ctx.arena.
#pragma once

#include <array>
#include <optional>

#include "comet/nn/training/parameters.h"
#include "comet/ops/batch_norm/batch_norm.h"
#include "comet/ops/inception_mixer/inception_mixer_backward.h"
#include "comet/tensor/images.h"

namespace comet::nn {

/// Uninitialized activations of the device's product type.
Tensor activations(Context& ctx, const Shape& shape);
Tensor activations_like(Context& ctx, const Tensor& x);
/// [images, height, width, channels] as a row per pixel; a matrix as it is.
Tensor as_rows(const Tensor& x);

class TrainableLinear {
 public:
  TrainableLinear() = default;
  /// weight of stored shape [n, k], [n, k, 1, 1] or [n, channels, height, width], bias [n].
  TrainableLinear(ParameterSet& set, const std::string& prefix, const Shape& weight_shape);
  /// [rows, n].
  Tensor forward(Context& ctx, const Tensor& x) const;
  void forward(Context& ctx, const Tensor& out, const Tensor& x) const;
  /// x is what forward saw; dx [rows, k].
  Tensor backward(Context& ctx, const Tensor& dy, const Tensor& x) const;
  /// The same where nobody asks for dx.
  void backward_weights(Context& ctx, const Tensor& dy, const Tensor& x) const;
  [[nodiscard]] int64_t n() const { return n_; }
  [[nodiscard]] int64_t k() const { return k_; }

 private:
  ParameterSet* set_ = nullptr;
  size_t weight_ = 0;
  size_t bias_ = 0;
  int64_t n_ = 0;
  int64_t k_ = 0;
};

/// A convolution whose stride is its kernel's size, without padding.
class TrainablePatchConv {
 public:
  struct Saved {
    Tensor patches;
    Shape input_shape;
  };
  TrainablePatchConv() = default;
  TrainablePatchConv(ParameterSet& set, const std::string& prefix, const Shape& weight_shape)
      : product_(set, prefix, weight_shape), size_(weight_shape[2]) {}
  Tensor forward(Context& ctx, const Tensor& images, Saved& saved) const;
  Tensor backward(Context& ctx, const Tensor& dy, const Saved& saved) const;
  void backward_weights(Context& ctx, const Tensor& dy, const Saved& saved) const;

 private:
  TrainableLinear product_;
  int64_t size_ = 1;
};

enum class NormKind { kBatch, kLayer };

/// Batch norm over all pixels (eps 1e-5, momentum 0.1) or layer norm over channels (eps 1e-6).
class TrainableNorm {
 public:
  struct Saved {
    Tensor x;
    Tensor mean, inv_std;  // of a batch norm
  };
  TrainableNorm() = default;
  TrainableNorm(ParameterSet& set, const std::string& prefix, NormKind kind, int64_t channels);
  /// Not training: a batch norm takes the running moments and leaves them as they are.
  Tensor forward(Context& ctx, const Tensor& x, bool training, Saved& saved) const;
  /// dx of x's shape; may overwrite dy.
  Tensor backward(Context& ctx, const Tensor& dy, const Saved& saved) const;

 private:
  [[nodiscard]] BatchNormWeights batch_weights() const;
  [[nodiscard]] LayerNormWeights layer_weights() const;

  ParameterSet* set_ = nullptr;
  NormKind kind_ = NormKind::kBatch;
  int64_t channels_ = 0;
  size_t weight_ = 0;
  size_t bias_ = 0;
  size_t running_mean_ = 0;
  size_t running_variance_ = 0;
};

/// What mixes pixels in a block: ops/inception_mixer or one depthwise convolution of all channels.
class TrainableMixer {
 public:
  struct Inception {
    int64_t branch = 0;
    int64_t band = 0;
  };
  TrainableMixer() = default;
  /// prefix + {dwconv_hw, dwconv_w, dwconv_h}.
  TrainableMixer(ParameterSet& set, const std::string& prefix, Inception sizes);
  /// prefix + {weight, bias}, kernel × kernel.
  TrainableMixer(ParameterSet& set, const std::string& prefix, int64_t channels, int64_t kernel);
  Tensor forward(Context& ctx, const Tensor& x) const;
  /// dx += what dy is of x, for the shortcut's gradient is there.
  void backward(Context& ctx, const Tensor& dx, const Tensor& dy, const Tensor& x) const;

 private:
  struct Part {
    size_t weight, bias;
  };
  [[nodiscard]] Part add_part(const std::string& prefix, int64_t channels, int64_t height,
                              int64_t width) const;
  [[nodiscard]] DepthwiseWeights weights(size_t part_idx) const;
  [[nodiscard]] DepthwiseGrads grads(size_t part_idx) const;

  ParameterSet* set_ = nullptr;
  std::array<Part, 3> parts_{};
  bool inception_ = false;
};

}  // namespace comet::nn
