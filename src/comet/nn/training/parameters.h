// ParameterSet: the trainable tensors of a network and its buffers under PyTorch's names, all
// values in one flat run of FP32 and all gradients in another, so that optimizer, guard, averaging
// and all-reduce are one operator each. Callers: nn/training's layers, models/vision/training,
// train.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "comet/formats/format.h"
#include "comet/ops/context.h"

namespace comet::nn {

/// How the operator's layout follows from the stored one.
enum class ParameterLayout {
  kSame,
  kChannelsLast,  // [n, channels, height, width] → [n, height · width · channels]
  kDepthwise,     // [channels, 1, height, width] → [height, width, channels]
};

struct Parameter {
  std::string name;
  Shape stored_shape;  // as PyTorch has it
  ParameterLayout layout = ParameterLayout::kSame;
  Shape shape;         // as the operators want it
  int64_t offset = 0;  // in the flat run
};

/// Values of every name, stored layout, in host memory.
using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

class ParameterSet {
 public:
  ParameterSet() = default;
  ParameterSet(const ParameterSet&) = delete;
  ParameterSet& operator=(const ParameterSet&) = delete;

  // While the network is built. Parameters with more than one stored axis decay, others do not.
  size_t add(const std::string& name, const Shape& stored_shape, ParameterLayout layout);
  /// A running moment: not trained, not in the flat run of gradients.
  size_t add_buffer(const std::string& name, const Shape& shape);
  /// Lays everything out in ctx.memory, zeros; no add after it.
  void allocate(Context& ctx);

  [[nodiscard]] const std::vector<Parameter>& parameters() const { return parameters_; }
  [[nodiscard]] const std::vector<Parameter>& buffers() const { return buffers_; }

  // Of one parameter, in the operators' layout.
  [[nodiscard]] Tensor value(size_t idx) const { return part(values_, parameters_[idx]); }
  [[nodiscard]] Tensor grad(size_t idx) const { return part(grads_, parameters_[idx]); }
  [[nodiscard]] Tensor buffer(size_t idx) const { return part(buffer_values_, buffers_[idx]); }
  /// What products multiply with: the shadow where there is one, the value elsewhere.
  [[nodiscard]] Tensor product_value(size_t idx) const {
    return part(shadow_.defined() ? shadow_ : values_, parameters_[idx]);
  }

  // Flat, at addresses that stay from allocate() on. Padding between parameters is zero and stays
  // so. [0, num_decayed()) decays.
  [[nodiscard]] const Tensor& values() const { return values_; }
  [[nodiscard]] const Tensor& grads() const { return grads_; }
  [[nodiscard]] const Tensor& shadow() const { return shadow_; }  // undefined on a CPU
  [[nodiscard]] const Tensor& buffer_values() const { return buffer_values_; }
  [[nodiscard]] int64_t num_decayed() const { return num_decayed_; }
  /// Without padding.
  [[nodiscard]] int64_t num_trained() const;

  /// Sets parameters and buffers; every name must be there in its stored shape.
  Status load(Context& ctx, const formats::TensorSource& tensors);
  /// Takes flat values of the host (a checkpoint's, an average's) in place of the present ones.
  void set_values(Context& ctx, std::span<const float> values);
  void set_buffers(Context& ctx, std::span<const float> values);
  /// Parameters from `values` (flat, of the device: values() or an average) and the buffers.
  [[nodiscard]] NamedTensors stored_tensors(Context& ctx, const Tensor& values) const;

 private:
  [[nodiscard]] static Tensor part(const Tensor& flat, const Parameter& parameter);
  void refresh_shadow(Context& ctx);

  std::vector<Parameter> parameters_;
  std::vector<Parameter> buffers_;
  int64_t num_decayed_ = 0;
  Tensor values_, grads_, shadow_, buffer_values_;
};

}  // namespace comet::nn
