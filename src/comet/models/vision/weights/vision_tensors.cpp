#include "comet/models/vision/weights/vision_tensors.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <map>

#include "comet/base/json.h"
#include "comet/models/vision/weights/vision_products.h"

namespace comet::models {
namespace {

constexpr size_t kMaxShown = 4;  // names of each kind in an error
constexpr std::string_view kCounter = "num_batches_tracked";

class TensorList {
 public:
  void add(const std::string& name, const Shape& shape) { tensors_.push_back({name, shape}); }
  /// weight and bias.
  void add_affine(const std::string& prefix, const Shape& weight) {
    add(prefix + "weight", weight);
    add(prefix + "bias", Shape{weight[0]});
  }
  void add_batch_norm(const std::string& prefix, int64_t channels) {
    add_affine(prefix, Shape{channels});
    add(prefix + "running_mean", Shape{channels});
    add(prefix + "running_var", Shape{channels});
  }
  std::vector<VisionTensor> take() { return std::move(tensors_); }

 private:
  std::vector<VisionTensor> tensors_;
};

void add_inception_next_block(TensorList& list, const std::string& prefix, const VisionStage& stage,
                              int64_t band) {
  const int64_t channels = stage.channels;
  list.add(prefix + "gamma", Shape{channels});
  list.add_affine(prefix + "token_mixer.dwconv_hw.", Shape{stage.branch, 1, 3, 3});
  list.add_affine(prefix + "token_mixer.dwconv_w.", Shape{stage.branch, 1, 1, band});
  list.add_affine(prefix + "token_mixer.dwconv_h.", Shape{stage.branch, 1, band, 1});
  list.add_batch_norm(prefix + "norm.", channels);
  list.add_affine(prefix + "mlp.fc1.", Shape{stage.hidden, channels, 1, 1});
  list.add_affine(prefix + "mlp.fc2.", Shape{channels, stage.hidden, 1, 1});
}

void add_convnext_block(TensorList& list, const std::string& prefix, const VisionStage& stage) {
  const int64_t channels = stage.channels;
  list.add(prefix + "gamma", Shape{channels});
  list.add_affine(prefix + "conv_dw.", Shape{channels, 1, 7, 7});
  list.add_affine(prefix + "norm.", Shape{channels});
  list.add_affine(prefix + "mlp.fc1.", Shape{stage.hidden, channels});
  list.add_affine(prefix + "mlp.fc2.", Shape{channels, stage.hidden});
}

void add_entry(TensorList& list, const VisionConfig& config, size_t stage_idx) {
  const int64_t channels = config.stages[stage_idx].channels;
  const bool inception = config.family == VisionFamily::kInceptionNext;
  const std::string prefix =
      stage_idx == 0 ? "stem." : fmt::format("stages.{}.downsample.", stage_idx);
  // The stem's norm follows its convolution, others go before it.
  const int64_t normed = stage_idx == 0 ? channels : config.stages[stage_idx - 1].channels;
  const std::string norm = prefix + (stage_idx == 0 ? "1." : "0.");
  if (stage_idx == 0) list.add_affine(prefix + "0.", Shape{channels, 3, 4, 4});
  if (inception) {
    list.add_batch_norm(norm, normed);
  } else {
    list.add_affine(norm, Shape{normed});
  }
  if (stage_idx > 0) list.add_affine(prefix + "1.", Shape{channels, normed, 2, 2});
}

/// "3 tensors are missing (a, b, ...)"; empty for none.
std::string listed(const std::vector<std::string>& names, std::string_view what) {
  if (names.empty()) return "";
  const std::vector<std::string> shown(names.begin(),
                                       names.begin() + std::min(names.size(), kMaxShown));
  return fmt::format("{} {} ({}{})", names.size(), what, fmt::join(shown, ", "),
                     names.size() > kMaxShown ? ", ..." : "");
}

/// What a checkpoint has beside or instead of the tensors of a configuration.
struct Differences {
  std::vector<std::string> missing, reshaped, surplus;

  [[nodiscard]] size_t count() const { return missing.size() + reshaped.size() + surplus.size(); }
  [[nodiscard]] std::string text() const {
    std::string all;
    for (const std::string& part : {listed(missing, "missing"), listed(surplus, "too many"),
                                    listed(reshaped, "of another shape")}) {
      if (!part.empty()) all += (all.empty() ? "" : ", ") + part;
    }
    return all;
  }
};

/// What a checkpoint should hold: tensors of these shapes, and tensors of quantized products, which
/// their formats check.
struct Expected {
  std::map<std::string, Shape, std::less<>> tensors;
  std::vector<std::string> products;
};

Expected expected_of(const VisionConfig& config, bool quantized) {
  Expected expected;
  for (VisionTensor& tensor : vision_tensors(config)) expected.tensors[tensor.name] = tensor.shape;
  if (!quantized) return expected;
  for (const VisionProduct& product : vision_products(config)) {
    for (const std::string& name : product.tensor_names()) expected.tensors.erase(name);
    if (is_quantized_product(product)) {
      expected.products.push_back(product.name);
    } else {
      expected.tensors[product.name + ".weight"] = Shape{product.n(), product.k()};
      expected.tensors[product.name + ".bias"] = Shape{product.n()};
    }
  }
  return expected;
}

/// Whether a tensor belongs to a product or to its input.
bool is_of_product(std::string_view name, std::string_view product) {
  if (!name.starts_with(product)) return false;
  const std::string_view rest = name.substr(product.size());
  return rest.starts_with(".") || rest == "_in.perm";
}

Differences compare(const io::Checkpoint& checkpoint, const VisionConfig& config) {
  Differences result;
  const Expected expected = expected_of(config, is_quantized(checkpoint));
  for (const auto& [name, shape] : expected.tensors) {
    const io::TensorInfo* found = checkpoint.find(name);
    if (found == nullptr) {
      result.missing.push_back(name);
    } else if (found->shape != shape) {
      result.reshaped.push_back(
          fmt::format("{} {} instead of {}", name, found->shape.to_string(), shape.to_string()));
    }
  }
  for (const std::string& product : expected.products) {
    if (!checkpoint.contains(product + ".bias")) result.missing.push_back(product + ".bias");
  }
  for (const std::string& name : checkpoint.names()) {
    const bool known = expected.tensors.contains(name) || name.ends_with(kCounter) ||
                       std::ranges::any_of(expected.products, [&](const std::string& product) {
                         return is_of_product(name, product);
                       });
    if (!known) result.surplus.push_back(name);
  }
  return result;
}

/// checkpoint_shapes, where a head that is missing has `num_classes`, so that a configuration can
/// be had of any checkpoint.
ShapeOf shapes_with_head(const io::Checkpoint& checkpoint, int64_t num_classes) {
  return [shapes = checkpoint_shapes(checkpoint),
          num_classes](const std::string& name) -> std::optional<Shape> {
    if (const auto shape = shapes(name)) return shape;
    if (name == "head.fc2.weight" || name == "head.fc.weight") return Shape{num_classes, 1};
    return std::nullopt;
  };
}

/// "; they fit X" for the known architecture that they fit, or nothing.
std::string fitting_text(const io::Checkpoint& checkpoint, const ShapeOf& shape_of) {
  for (const std::string& name : vision_architectures()) {
    const auto config = vision_config(name, shape_of, "");
    if (config && compare(checkpoint, *config).count() == 0) {
      return fmt::format("; the tensors are those of {}: correct the field 'architecture'", name);
    }
  }
  return "";
}

}  // namespace

bool is_quantized(const io::Checkpoint& checkpoint) {
  const Json& config = checkpoint.config();
  return config.is_object() && config.contains("quantization_config") &&
         !config["quantization_config"].is_null();
}

ShapeOf checkpoint_shapes(const io::Checkpoint& checkpoint) {
  return [&checkpoint,
          quantized = is_quantized(checkpoint)](const std::string& name) -> std::optional<Shape> {
    if (const io::TensorInfo* info = checkpoint.find(name)) return info->shape;
    if (!quantized) return std::nullopt;
    // A block is counted by its layer scale, which is part of its last product.
    const size_t dot = name.rfind('.') + 1;
    const std::string product =
        name.substr(dot) == "gamma" ? name.substr(0, dot) + "mlp.fc2." : name.substr(0, dot);
    const io::TensorInfo* bias = checkpoint.find(product + "bias");
    if (bias == nullptr || bias->shape.rank() != 1) return std::nullopt;
    return Shape{bias->shape[0], 1};
  };
}

std::vector<VisionTensor> vision_tensors(const VisionConfig& config) {
  TensorList list;
  for (size_t i = 0; i < config.stages.size(); ++i) {
    const VisionStage& stage = config.stages[i];
    add_entry(list, config, i);
    for (int64_t block_idx = 0; block_idx < stage.depth; ++block_idx) {
      const std::string prefix = fmt::format("stages.{}.blocks.{}.", i, block_idx);
      if (config.family == VisionFamily::kInceptionNext) {
        add_inception_next_block(list, prefix, stage, config.band);
      } else {
        add_convnext_block(list, prefix, stage);
      }
    }
  }
  const int64_t channels = config.stages.back().channels;
  if (config.family == VisionFamily::kInceptionNext) {
    list.add_affine("head.fc1.", Shape{config.head_hidden, channels});
    list.add_affine("head.norm.", Shape{config.head_hidden});
    list.add_affine("head.fc2.", Shape{config.num_classes, config.head_hidden});
  } else {
    list.add_affine("head.norm.", Shape{channels});
    list.add_affine("head.fc.", Shape{config.num_classes, channels});
  }
  return list.take();
}

Status check_vision_checkpoint(const io::Checkpoint& checkpoint) {
  const std::string source = checkpoint.config_path();
  const JsonObject fields(checkpoint.config(), source);
  const auto architecture = fields.string("architecture");
  if (!architecture) return architecture.error();
  if (!architecture->has_value()) return {};  // load_vision_model says so
  const auto num_classes = fields.integer("num_classes", 1, int64_t{1} << 24);
  if (!num_classes) return num_classes.error();
  const ShapeOf shape_of = shapes_with_head(checkpoint, num_classes->value_or(1000));
  const auto config = vision_config(**architecture, shape_of, source);
  if (!config) return config.error();
  const Differences differences = compare(checkpoint, *config);
  if (differences.count() == 0) return {};
  return make_error(ErrorCode::kCorrupt, "{}: the tensors are not those of {}: {}{}", source,
                    **architecture, differences.text(), fitting_text(checkpoint, shape_of));
}

}  // namespace comet::models
