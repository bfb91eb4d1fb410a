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

  /// The norm of x += delta.
  [[nodiscard]] formats::NormInput operator()(View<float, 2> x, ConstRows delta) const {
    return {x, view(), eps_, delta};
  }
  /// The norm of x, which is only read.
  [[nodiscard]] formats::NormInput operator()(View<const float, 2> x) const {
    return {{const_cast<float*>(x.data), x.sizes, x.strides}, view(), eps_, {}};
  }
  /// The weight where the device reads it.
  [[nodiscard]] View<const float, 1> view() const {
    return {on_device_.defined() ? on_device_.data<float>() : weight_.data(),
            {static_cast<int64_t>(weight_.size())}};
  }
  void move_to_device(Context& ctx);
  [[nodiscard]] const std::vector<float>& weight() const { return weight_; }
  [[nodiscard]] float eps() const { return eps_; }

 private:
  std::vector<float> weight_;
  Tensor on_device_;  // a copy; undefined on a CPU
  float eps_ = 0.0F;
};

/// Elements of a float tensor (FP32, FP16, BF16) as FP32.
std::vector<float> to_float_vector(const Tensor& tensor);

}  // namespace comet::nn
