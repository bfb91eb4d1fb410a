#include "bench/vision_bench.h"

#include <cmath>

#include "comet/base/rng.h"
#include "comet/formats/schemes/bind_linear.h"
#include "comet/models/vision/weights/vision_products.h"

namespace comet::bench {
namespace {

/// Every tensor that is asked for: values around 0 that keep activations in range, variances and
/// scales around 1; of 8-bit weights codes, with scales that do the same.
class RandomTensors final : public formats::TensorSource {
 public:
  [[nodiscard]] bool contains(std::string_view name) const override {
    return !name.ends_with("_zero_point") && !name.ends_with("input_scale");
  }
  [[nodiscard]] Result<Tensor> get(std::string_view name, std::span<const DType> dtypes,
                                   const Shape& shape) const override {
    if (dtypes.size() == 1 && dtypes[0] != DType::kF32) return codes(name, dtypes[0], shape);
    const bool is_spread = name.ends_with("running_var");
    const bool is_scale = name.ends_with("weight_scale");
    const bool is_vector = shape.rank() == 1;
    const int64_t num_inputs = shape.num_elements() / std::max<int64_t>(1, shape[0]);
    const auto fan_in = static_cast<double>(num_inputs);
    const auto scale = static_cast<float>(is_spread   ? 0.5
                                          : is_scale  ? 0.005
                                          : is_vector ? 0.2
                                                      : std::sqrt(3.0 / fan_in));
    const float offset = is_spread ? 1.0F : is_scale ? 0.01F : 0.0F;
    Tensor tensor = allocate_tensor(host_allocator(), DType::kF32, shape);
    const Rng rng(std::hash<std::string_view>{}(name));
    auto* values = tensor.data<float>();
    for (int64_t i = 0; i < tensor.num_elements(); ++i) {
      values[i] = offset + scale * (2.0F * rng.uniform(static_cast<uint64_t>(i)) - 1.0F);
    }
    return tensor;
  }

 private:
  /// Bytes that are small numbers as integers and in E4M3.
  static Tensor codes(std::string_view name, DType dtype, const Shape& shape) {
    Tensor tensor = allocate_tensor(host_allocator(), dtype, shape);
    const Rng rng(std::hash<std::string_view>{}(name));
    for (int64_t i = 0; i < tensor.num_elements(); ++i) {
      const uint64_t bits = rng.bits(static_cast<uint64_t>(i));
      const uint64_t code = dtype == DType::kI8 ? (bits & 15U) - 8 : bits & 0x8FU;
      tensor.raw()[i] = static_cast<std::byte>(code);
    }
    return tensor;
  }
};

}  // namespace

Result<std::unique_ptr<models::VisionModel>> random_vision_model(Context& ctx,
                                                                 const DrawnVision& drawn) {
  const models::ShapeOf shape_of = [&](const std::string& name) -> std::optional<Shape> {
    if (name == "head.fc2.weight" || name == "head.fc.weight") return Shape{drawn.num_classes, 1};
    return std::nullopt;
  };
  const auto config =
      models::vision_config(drawn.architecture, shape_of, "--arch " + drawn.architecture);
  if (!config) return config.error();
  if (drawn.format == "dense") return models::load_vision_model(ctx, *config, RandomTensors());
  const auto format = formats::find_weight_format(drawn.format);
  if (!format) return format.error();
  formats::ModelScheme scheme;
  scheme.format = *format;
  return models::load_vision_model(ctx, *config, RandomTensors(), &scheme);
}

double forward_macs(const models::VisionConfig& config, int64_t size) {
  const auto weights = [](const models::VisionProduct& product) {
    return static_cast<double>(product.n() * product.k());
  };
  double macs = 0;
  int64_t side = size / 4;
  for (size_t i = 0; i < config.stages.size(); ++i, side /= 2) {
    const models::VisionStage& stage = config.stages[i];
    const auto pixels = static_cast<double>(side * side);
    const models::MlpProducts mlp = models::mlp_products(config, i, 0);
    const int64_t taps = config.family == models::VisionFamily::kInceptionNext
                             ? stage.branch * (9 + 2 * config.band)
                             : stage.channels * 49;
    const double block = weights(mlp.fc1) + weights(mlp.fc2) + static_cast<double>(taps);
    macs += pixels * static_cast<double>(stage.depth) * block;
    macs += pixels *
            weights(i == 0 ? models::stem_product(config) : models::downsample_product(config, i));
  }
  for (const models::VisionProduct& product : models::head_products(config)) {
    macs += weights(product);
  }
  return macs;
}

}  // namespace comet::bench
