// nn::Linear: y = x · Wᵀ + bias for every weight format. The caller hands over what precedes the
// product (rows, a norm, SiLU·mul) and the format fuses it into making its input.
#pragma once

#include <array>
#include <memory>

#include "comet/formats/format.h"
#include "comet/ops/context.h"

namespace comet::nn {

class Linear;

/// Sees the input rows of a float linear, where and as the device multiplies them: calibration.
class InputObserver {
 public:
  virtual ~InputObserver() = default;
  virtual void on_input(const Linear& linear, ConstRows rows) = 0;
};

class Linear {
 public:
  Linear() = default;
  /// Finds the linear's tensors in `tensors` and plans its kernel.
  static Result<Linear> load(const formats::LinearSpec& spec, const formats::WeightFormat& format,
                             const formats::FormatConfig* config,
                             const formats::TensorSource& tensors, const Caps& caps);

  /// Lays the weights where and as the device's kernels read them; needed once on a GPU.
  Status move_to_device(Context& ctx);

  // [rows, n] in ctx.arena, of the type that products have on the device, or of `dtype`.
  Tensor operator()(Context& ctx, ConstRows x) const;
  Tensor operator()(Context& ctx, const formats::NormInput& x) const;
  Tensor operator()(Context& ctx, const formats::NormInput& x, DType dtype) const;
  // The same written to out [rows, n].
  void operator()(Context& ctx, ConstRows x, Rows out) const;
  void operator()(Context& ctx, const formats::SiluMulInput& x, Rows out) const;
  /// The same with what follows the product; out has the type that products have on the device.
  void operator()(Context& ctx, ConstRows x, Rows out, formats::LinearEnd end) const;
  /// to += fc2(GELU(fc1(x))), in one pass where their kernel has one.
  static void run_mlp(Context& ctx, const Linear& fc1, const Linear& fc2, ConstRows x, Rows to);

  [[nodiscard]] const formats::LinearSpec& spec() const { return weight_.spec; }
  [[nodiscard]] const formats::LinearWeight& weight() const { return weight_; }
  /// nullptr takes the observer away. Of a dense linear: the inputs of others are codes.
  void set_observer(InputObserver* observer) { observer_ = observer; }

 private:
  [[nodiscard]] formats::Activation input(Context& ctx, ConstRows x) const;
  [[nodiscard]] formats::Activation input(Context& ctx, const formats::NormInput& x) const;
  [[nodiscard]] formats::Activation input(Context& ctx, const formats::SiluMulInput& x) const;
  [[nodiscard]] formats::Activation observed(formats::Activation input) const;
  [[nodiscard]] Tensor multiply(Context& ctx, const formats::Activation& x, DType dtype) const;

  formats::LinearWeight weight_;
  InputObserver* observer_ = nullptr;
};

/// The columns of a fused linear's output, one tensor per part: [rows, part_rows[i]].
template <size_t N>
std::array<Tensor, N> split_parts(const Linear& linear, const Tensor& fused) {
  COMET_CHECK(linear.spec().part_rows.size() == N, "{} has {} parts", linear.spec().name,
              linear.spec().part_rows.size());
  std::array<Tensor, N> parts;
  int64_t begin = 0;
  for (size_t i = 0; i < N; ++i) {
    parts[i] = fused.slice(1, begin, begin + linear.spec().part_rows[i]);
    begin += linear.spec().part_rows[i];
  }
  return parts;
}

}  // namespace comet::nn
