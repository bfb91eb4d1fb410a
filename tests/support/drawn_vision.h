// Weights of the goldens in tests/data/vision, drawn by name (support/drawn.h) and never stored:
// tools/oracle_vision.py draws the same values. Images are draw("images", …).
#pragma once

#include <cmath>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "comet/formats/format.h"
#include "support/drawn.h"

namespace comet::testing {

/// A parameter in the range that its kind has in the goldens.
inline Tensor draw_parameter(std::string_view name, const Shape& shape) {
  if (name.ends_with("running_mean")) return draw(name, shape, 0.0, 0.2);
  if (name.ends_with("running_var")) return draw(name, shape, 1.0, 0.5);
  if (name.ends_with("gamma")) return draw(name, shape, 0.3, 0.2);
  if (name.ends_with("bias")) return draw(name, shape, 0.0, 0.1);
  if (shape.rank() == 1) return draw(name, shape, 1.0, 0.2);
  const int64_t fan_in = shape.num_elements() / shape[0];
  return draw(name, shape, 0.0, std::sqrt(3.0 / static_cast<double>(fan_in)));
}

/// Every tensor that a model asks for, in the shape in which it asks, and a list of what it asked.
class DrawnVision final : public formats::TensorSource {
 public:
  [[nodiscard]] bool contains(std::string_view /*name*/) const override { return true; }
  [[nodiscard]] Result<Tensor> get(std::string_view name, std::span<const DType> /*dtypes*/,
                                   const Shape& shape) const override {
    asked_[std::string(name)] = shape;
    return draw_parameter(name, shape);
  }
  [[nodiscard]] const std::map<std::string, Shape>& asked() const { return asked_; }

 private:
  mutable std::map<std::string, Shape> asked_;
};

}  // namespace comet::testing
