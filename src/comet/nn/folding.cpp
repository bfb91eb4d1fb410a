#include "comet/nn/folding.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "comet/nn/rms_norm.h"

namespace comet::nn {
namespace {

constexpr std::array kFloatDtypes{DType::kF32, DType::kF16, DType::kBF16};

/// The weight and the bias of one FloatLinear under the names that the dense format asks for.
class FoldedSource final : public formats::TensorSource {
 public:
  FoldedSource(std::string prefix, Tensor weight, Tensor bias)
      : prefix_(std::move(prefix)), weight_(std::move(weight)), bias_(std::move(bias)) {}

  [[nodiscard]] bool contains(std::string_view name) const override {
    return name == prefix_ + ".weight" || name == prefix_ + ".bias";
  }
  [[nodiscard]] Result<Tensor> get(std::string_view name, std::span<const DType> /*dtypes*/,
                                   const Shape& shape) const override {
    const Tensor& tensor = name == prefix_ + ".weight" ? weight_ : bias_;
    COMET_CHECK(contains(name) && tensor.shape() == shape, "{} as {} {}", prefix_, name,
                shape.to_string());
    return tensor;
  }

 private:
  std::string prefix_;
  Tensor weight_;
  Tensor bias_;
};

Tensor to_tensor(const std::vector<float>& values, const Shape& shape) {
  Tensor tensor = allocate_tensor(host_allocator(), DType::kF32, shape);
  COMET_CHECK(tensor.num_elements() == static_cast<int64_t>(values.size()), "{} values as {}",
              values.size(), shape.to_string());
  std::copy(values.begin(), values.end(), tensor.data<float>());
  return tensor;
}

/// [n, channels, taps] → [n, taps, channels].
std::vector<float> channels_last(const std::vector<float>& values, int64_t n, int64_t channels,
                                 int64_t taps) {
  std::vector<float> out(values.size());
  const float* from = values.data();
  for (int64_t row = 0; row < n; ++row) {
    float* to = out.data() + row * channels * taps;
    for (int64_t channel = 0; channel < channels; ++channel) {
      for (int64_t tap = 0; tap < taps; ++tap) to[tap * channels + channel] = *from++;
    }
  }
  return out;
}

}  // namespace

Result<std::vector<float>> load_floats(const std::string& name, const Shape& shape,
                                       const formats::TensorSource& tensors) {
  auto tensor = tensors.get(name, kFloatDtypes, shape);
  if (!tensor) return tensor.error();
  return to_float_vector(*tensor);
}

Result<ChannelAffine> load_batch_norm(const std::string& prefix, int64_t channels, double eps,
                                      const formats::TensorSource& tensors) {
  std::array<std::vector<float>, 4> values;
  const std::array<std::string, 4> names{"weight", "bias", "running_mean", "running_var"};
  for (size_t i = 0; i < names.size(); ++i) {
    auto loaded = load_floats(prefix + names[i], Shape{channels}, tensors);
    if (!loaded) return loaded.error();
    values[i] = *std::move(loaded);
  }
  const auto& [weight, bias, mean, variance] = values;
  ChannelAffine affine;
  for (size_t i = 0; i < weight.size(); ++i) {
    const double spread = double{variance[i]} + eps;
    if (!(spread > 0)) {
      return make_error(ErrorCode::kCorrupt,
                        "tensor '{}running_var' is {} at {}; expected variances of at least 0",
                        prefix, variance[i], i);
    }
    const double scale = weight[i] / std::sqrt(spread);
    affine.scale.push_back(scale);
    affine.shift.push_back(bias[i] - scale * mean[i]);
  }
  return affine;
}

Result<ChannelAffine> load_layer_scale(const std::string& name, int64_t channels,
                                       const formats::TensorSource& tensors) {
  const auto gamma = load_floats(name, Shape{channels}, tensors);
  if (!gamma) return gamma.error();
  return ChannelAffine{{gamma->begin(), gamma->end()}, std::vector<double>(gamma->size(), 0.0)};
}

Result<FloatLinear> FloatLinear::load(const std::string& prefix, const Shape& weight_shape,
                                      const formats::TensorSource& tensors) {
  const bool convolution = weight_shape.rank() == 4;
  COMET_CHECK(convolution || weight_shape.rank() == 2, "{}: weight {}", prefix,
              weight_shape.to_string());
  FloatLinear linear;
  linear.name = prefix.substr(0, prefix.size() - 1);  // without the dot
  linear.n = weight_shape[0];
  linear.k = weight_shape.num_elements() / linear.n;
  auto weight = load_floats(prefix + "weight", weight_shape, tensors);
  if (!weight) return weight.error();
  auto bias = load_floats(prefix + "bias", Shape{linear.n}, tensors);
  if (!bias) return bias.error();
  linear.weight = *std::move(weight);
  linear.bias = *std::move(bias);
  if (convolution && weight_shape[2] * weight_shape[3] > 1) {
    linear.weight =
        channels_last(linear.weight, linear.n, weight_shape[1], weight_shape[2] * weight_shape[3]);
  }
  return linear;
}

void FloatLinear::fold_input(const ChannelAffine& affine) {
  const auto channels = static_cast<int64_t>(affine.scale.size());
  COMET_CHECK(channels > 0 && k % channels == 0, "{}: {} inputs of {} channels", name, k, channels);
  for (int64_t row = 0; row < n; ++row) {
    float* w = weight.data() + row * k;
    double sum = bias[static_cast<size_t>(row)];
    for (int64_t i = 0; i < k; ++i) {
      const auto channel = static_cast<size_t>(i % channels);
      sum += double{w[i]} * affine.shift[channel];
      w[i] = static_cast<float>(double{w[i]} * affine.scale[channel]);
    }
    bias[static_cast<size_t>(row)] = static_cast<float>(sum);
  }
}

void FloatLinear::fold_output(const ChannelAffine& affine) {
  COMET_CHECK(static_cast<int64_t>(affine.scale.size()) == n, "{}: {} outputs, {} channels", name,
              n, affine.scale.size());
  for (int64_t row = 0; row < n; ++row) {
    const auto at = static_cast<size_t>(row);
    float* w = weight.data() + row * k;
    for (int64_t i = 0; i < k; ++i) w[i] = static_cast<float>(double{w[i]} * affine.scale[at]);
    bias[at] = static_cast<float>(double{bias[at]} * affine.scale[at] + affine.shift[at]);
  }
}

Result<Linear> FloatLinear::plan(const Caps& caps) const {
  const FoldedSource source(name, to_tensor(weight, Shape{n, k}), to_tensor(bias, Shape{n}));
  const formats::LinearSpec spec{name, "", {name}, {n}, k, true, true};
  auto dense = formats::find_weight_format("dense");
  if (!dense) return dense.error();
  return Linear::load(spec, **dense, nullptr, source, caps);
}

}  // namespace comet::nn
