#include "comet/models/vision/vision_tensors.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <map>

#include "comet/base/json.h"

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

Differences compare(const io::Checkpoint& checkpoint, const VisionConfig& config) {
  Differences result;
  std::map<std::string, Shape, std::less<>> expected;
  for (VisionTensor& tensor : vision_tensors(config)) expected[tensor.name] = tensor.shape;
  for (const auto& [name, shape] : expected) {
    const io::TensorInfo* found = checkpoint.find(name);
    if (found == nullptr) {
      result.missing.push_back(name);
    } else if (found->shape != shape) {
      result.reshaped.push_back(
          fmt::format("{} {} instead of {}", name, found->shape.to_string(), shape.to_string()));
    }
  }
  for (const std::string& name : checkpoint.names()) {
    if (!expected.contains(name) && !name.ends_with(kCounter)) result.surplus.push_back(name);
  }
  return result;
}

/// Shapes of the checkpoint; a head that is missing has `num_classes`, so that a configuration can
/// be had of any checkpoint.
ShapeOf shapes_of(const io::Checkpoint& checkpoint, int64_t num_classes) {
  return [&checkpoint, num_classes](const std::string& name) -> std::optional<Shape> {
    if (const io::TensorInfo* info = checkpoint.find(name)) return info->shape;
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
  const ShapeOf shape_of = shapes_of(checkpoint, num_classes->value_or(1000));
  const auto config = vision_config(**architecture, shape_of, source);
  if (!config) return config.error();
  const Differences differences = compare(checkpoint, *config);
  if (differences.count() == 0) return {};
  return make_error(ErrorCode::kCorrupt, "{}: the tensors are not those of {}: {}{}", source,
                    **architecture, differences.text(), fitting_text(checkpoint, shape_of));
}

}  // namespace comet::models
