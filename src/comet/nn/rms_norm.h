// nn::RmsNorm: the weight of an RMSNorm. `norm(x)` is a description: the linear behind it runs it.
#pragma once

#include <string>
#include <vector>

#include "comet/formats/format.h"

namespace comet::nn {

class RmsNorm {
 public:
  RmsNorm() = default;
  /// `name` is the tensor's name; its values are widened to FP32.
  static Result<RmsNorm> load(const std::string& name, int64_t size, float eps,
                              const formats::TensorSource& tensors);
  RmsNorm(std::vector<float> weight, float eps) : weight_(std::move(weight)), eps_(eps) {}

  [[nodiscard]] formats::NormInput operator()(View<const float, 2> x) const {
    return {x, view(), eps_};
  }
  [[nodiscard]] View<const float, 1> view() const {
    return {weight_.data(), {static_cast<int64_t>(weight_.size())}};
  }
  [[nodiscard]] const std::vector<float>& weight() const { return weight_; }
  [[nodiscard]] float eps() const { return eps_; }

 private:
  std::vector<float> weight_;
  float eps_ = 0.0F;
};

/// Elements of a float tensor (FP32, FP16, BF16) as FP32.
std::vector<float> to_float_vector(const Tensor& tensor);

}  // namespace comet::nn
