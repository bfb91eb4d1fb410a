// One residual block in training: out = x + keep · γ ∘ MLP(norm(mixer(x))), with batch norm in
// InceptionNeXt (Yu et al. 2024), layer norm in ConvNeXt (Liu et al. 2022). Callers:
// trainable_vision.cpp.
#pragma once

#include "comet/nn/training/layers.h"

namespace comet::models {

class TrainableBlock {
 public:
  /// Which mixer and norm, and what timm calls them.
  struct Parts {
    nn::TrainableMixer mixer;
    nn::TrainableNorm norm;
  };
  TrainableBlock(nn::ParameterSet& set, const std::string& prefix, Parts parts,
                 const Shape& fc1_shape, const Shape& fc2_shape);

  /// keep [images] of drop path; undefined: nothing is dropped. What backward() needs stays in
  /// ctx.arena.
  Tensor forward(Context& ctx, const Tensor& x, bool training, const Tensor& keep);
  /// In place: dx holds what the block's output has, then what x has.
  void backward(Context& ctx, const Tensor& dx) const;

 private:
  [[nodiscard]] Tensor gamma() const { return set_->value(gamma_); }

  nn::ParameterSet* set_;
  Parts parts_;
  nn::TrainableLinear fc1_;
  nn::TrainableLinear fc2_;
  size_t gamma_;

  struct Saved {
    Tensor x, normed, hidden, activated, branch, keep;
    nn::TrainableNorm::Saved norm;
  };
  Saved saved_;
};

}  // namespace comet::models
