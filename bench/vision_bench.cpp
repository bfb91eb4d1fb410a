#include "bench/vision_bench.h"

#include <cmath>

#include "comet/base/rng.h"

namespace comet::bench {
namespace {

/// Every tensor that is asked for: values around 0 that keep activations in range, variances and
/// scales around 1.
class RandomTensors final : public formats::TensorSource {
 public:
  [[nodiscard]] bool contains(std::string_view /*name*/) const override { return true; }
  [[nodiscard]] Result<Tensor> get(std::string_view name, std::span<const DType> /*dtypes*/,
                                   const Shape& shape) const override {
    const bool is_spread = name.ends_with("running_var");
    const bool is_vector = shape.rank() == 1;
    const int64_t num_inputs = shape.num_elements() / std::max<int64_t>(1, shape[0]);
    const auto fan_in = static_cast<double>(num_inputs);
    const auto scale = static_cast<float>(is_spread   ? 0.5
                                          : is_vector ? 0.2
                                                      : std::sqrt(3.0 / fan_in));
    const float offset = is_spread ? 1.0F : 0.0F;
    Tensor tensor = allocate_tensor(host_allocator(), DType::kF32, shape);
    const Rng rng(std::hash<std::string_view>{}(name));
    auto* values = tensor.data<float>();
    for (int64_t i = 0; i < tensor.num_elements(); ++i) {
      values[i] = offset + scale * (2.0F * rng.uniform(static_cast<uint64_t>(i)) - 1.0F);
    }
    return tensor;
  }
};

}  // namespace

Result<std::unique_ptr<models::VisionModel>> random_vision_model(Context& ctx,
                                                                 const std::string& architecture,
                                                                 int64_t num_classes) {
  const models::ShapeOf shape_of = [&](const std::string& name) -> std::optional<Shape> {
    if (name == "head.fc2.weight" || name == "head.fc.weight") return Shape{num_classes, 1};
    return std::nullopt;
  };
  const auto config = models::vision_config(architecture, shape_of, "--arch " + architecture);
  if (!config) return config.error();
  return models::load_vision_model(ctx, *config, RandomTensors());
}

}  // namespace comet::bench
