// The tensors of a synthetic model as its formats ask for them when they bind: a packed layout is a
// permutation of independent codes, so random bytes of the packed shape are random weights. Each
// tensor is a pure function of seed and name and is drawn when asked for: matrices where the device
// reads them, the rest (scales, norms, biases) on the host, where formats check it. Callers:
// make_synthetic_model, quant/export/synthetic_checkpoint.
#pragma once

#include <map>
#include <string>

#include "comet/models/synthetic.h"

namespace comet::models {

class RandomTensors final : public formats::TensorSource {
 public:
  /// `ctx` outlives it.
  RandomTensors(Context& ctx, const io::ModelConfig& config, const SyntheticOptions& options);

  [[nodiscard]] bool contains(std::string_view name) const override;
  [[nodiscard]] Result<Tensor> get(std::string_view name, std::span<const DType> dtypes,
                                   const Shape& shape) const override;

 private:
  [[nodiscard]] Tensor random(std::string_view name, DType dtype, const Shape& shape) const;
  [[nodiscard]] Result<Tensor> weight_shape(std::string_view name, DType dtype) const;
  [[nodiscard]] float weight_scale(std::string_view name) const;

  Context& ctx_;
  SyntheticOptions options_;
  bool has_head_;
  std::map<std::string, std::array<int64_t, 2>, std::less<>> matrices_;  // rows and k, by prefix
  Tensor gaussian_;           // BF16 values [kRandomTableSize], where the device reads them
  mutable Tensor embedding_;  // kept: a tied lm_head is the same tensor
};

}  // namespace comet::models
