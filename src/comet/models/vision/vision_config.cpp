#include "comet/models/vision/vision_config.h"

#include <fmt/ranges.h>

#include <span>
#include <string_view>

namespace comet::models {
namespace {

constexpr std::string_view kInceptionNextName = "inception_next";
constexpr std::string_view kConvNextName = "convnext";

/// A size of InceptionNeXt (Yu et al. 2024, table 1) or ConvNeXt (Liu et al. 2022, §2).
struct KnownSize {
  std::string_view name;
  VisionFamily family;
  std::array<int64_t, kNumVisionStages> depths;
  std::array<int64_t, kNumVisionStages> channels;
  int64_t branch_divisor;  // channels of a branch = channels / this
  int64_t band;
};

constexpr std::array kKnownSizes{
    KnownSize{"inception_next_atto",
              VisionFamily::kInceptionNext,
              {2, 2, 6, 2},
              {40, 80, 160, 320},
              4,
              9},
    KnownSize{"inception_next_tiny",
              VisionFamily::kInceptionNext,
              {3, 3, 9, 3},
              {96, 192, 384, 768},
              8,
              11},
    KnownSize{"inception_next_small",
              VisionFamily::kInceptionNext,
              {3, 3, 27, 3},
              {96, 192, 384, 768},
              8,
              11},
    KnownSize{"inception_next_base",
              VisionFamily::kInceptionNext,
              {3, 3, 27, 3},
              {128, 256, 512, 1024},
              8,
              11},
    KnownSize{"convnext_tiny", VisionFamily::kConvNext, {3, 3, 9, 3}, {96, 192, 384, 768}, 0, 0},
};

VisionConfig config_of(const KnownSize& size) {
  VisionConfig config;
  config.architecture = size.name;
  config.family = size.family;
  config.band = size.band;
  const bool inception = size.family == VisionFamily::kInceptionNext;
  for (size_t i = 0; i < config.stages.size(); ++i) {
    const int64_t channels = size.channels[i];
    const int64_t mlp_ratio = inception && i + 1 == config.stages.size() ? 3 : 4;
    config.stages[i] = {size.depths[i], channels, mlp_ratio * channels,
                        inception ? channels / size.branch_divisor : 0};
  }
  if (inception) config.head_hidden = 3 * config.stages.back().channels;
  return config;
}

/// Asks for sizes of tensors; the first that is missing or has too few axes is the error.
class TensorSizes {
 public:
  TensorSizes(const ShapeOf& shape_of, const std::string& source, std::string_view architecture)
      : shape_of_(shape_of), source_(source), architecture_(architecture) {}

  int64_t operator()(const std::string& name, int axis) {
    const std::optional<Shape> shape = shape_of_(name);
    if (!failed_ && (!shape || shape->rank() <= axis)) {
      failed_ = make_error(
          ErrorCode::kCorrupt, "{}: tensor '{}' {}; a checkpoint of {} has it with {} axes or more",
          source_, name,
          shape ? fmt::format("has shape {}", shape->to_string()) : std::string("is missing"),
          architecture_, axis + 1);
    }
    return failed_ ? 1 : (*shape)[axis];
  }
  [[nodiscard]] const std::optional<Error>& failure() const { return failed_; }

 private:
  const ShapeOf& shape_of_;
  const std::string& source_;
  std::string_view architecture_;
  std::optional<Error> failed_;
};

VisionStage stage_from_tensors(int64_t stage_idx, bool inception, const ShapeOf& shape_of,
                               TensorSizes& sizes) {
  const std::string stage = fmt::format("stages.{}.", stage_idx);
  VisionStage found;
  found.channels =
      stage_idx == 0 ? sizes("stem.0.weight", 0) : sizes(stage + "downsample.1.weight", 0);
  while (shape_of(fmt::format("{}blocks.{}.gamma", stage, found.depth))) ++found.depth;
  found.hidden = sizes(stage + "blocks.0.mlp.fc1.weight", 0);
  if (inception) found.branch = sizes(stage + "blocks.0.token_mixer.dwconv_w.weight", 0);
  return found;
}

VisionConfig config_from_tensors(bool inception, const ShapeOf& shape_of, TensorSizes& sizes) {
  VisionConfig config;
  config.architecture = inception ? kInceptionNextName : kConvNextName;
  config.family = inception ? VisionFamily::kInceptionNext : VisionFamily::kConvNext;
  for (size_t i = 0; i < config.stages.size(); ++i) {
    config.stages[i] = stage_from_tensors(static_cast<int64_t>(i), inception, shape_of, sizes);
  }
  if (inception) {
    config.band = sizes("stages.0.blocks.0.token_mixer.dwconv_w.weight", 3);
    config.head_hidden = sizes("head.fc1.weight", 0);
  }
  return config;
}

/// What operators require of sizes that a file gave.
Status check_sizes(const VisionConfig& config, const std::string& source) {
  for (size_t i = 0; i < config.stages.size(); ++i) {
    const VisionStage& stage = config.stages[i];
    if (stage.channels < 1 || stage.hidden < 1 || 3 * stage.branch > stage.channels) {
      return make_error(ErrorCode::kCorrupt,
                        "{}: stage {} has {} channels, branches of {} and an MLP of {}; expected "
                        "at least 1 and three branches that fit the channels",
                        source, i, stage.channels, stage.branch, stage.hidden);
    }
  }
  const bool inception = config.family == VisionFamily::kInceptionNext;
  if ((!inception || (config.band % 2 == 1 && config.head_hidden > 0)) && config.num_classes > 0) {
    return {};
  }
  return make_error(ErrorCode::kCorrupt,
                    "{}: bands of {} taps, {} channels in the head, {} classes; expected an odd "
                    "number of taps and at least 1 of the others",
                    source, config.band, config.head_hidden, config.num_classes);
}

}  // namespace

std::vector<std::string> vision_architectures() {
  std::vector<std::string> names;
  for (const KnownSize& size : kKnownSizes) names.emplace_back(size.name);
  names.emplace_back(kInceptionNextName);
  names.emplace_back(kConvNextName);
  return names;
}

Result<VisionConfig> vision_config(const std::string& architecture, const ShapeOf& shape_of,
                                   const std::string& source) {
  TensorSizes sizes(shape_of, source, architecture);
  std::optional<VisionConfig> config;
  for (const KnownSize& size : kKnownSizes) {
    if (size.name == architecture) config = config_of(size);
  }
  if (architecture == kInceptionNextName || architecture == kConvNextName) {
    config = config_from_tensors(architecture == kInceptionNextName, shape_of, sizes);
  }
  if (!config) {
    return make_error(ErrorCode::kUnsupported,
                      "{}: architecture '{}' is unknown; expected one of {}", source, architecture,
                      fmt::join(vision_architectures(), ", "));
  }
  const bool inception = config->family == VisionFamily::kInceptionNext;
  config->num_classes = sizes(inception ? "head.fc2.weight" : "head.fc.weight", 0);
  if (sizes.failure()) return *sizes.failure();
  if (const Status valid = check_sizes(*config, source); !valid) return valid.error();
  return *config;
}

}  // namespace comet::models
