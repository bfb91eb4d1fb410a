// VisionConfig: which image classifier a checkpoint holds. The architecture's name gives depths and
// widths of the known sizes; of a size of one's own ("inception_next", "convnext") the tensors say
// them. Names and state dicts are timm's. Callers: models/vision, apps.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "comet/base/result.h"
#include "comet/tensor/tensor.h"

namespace comet::models {

enum class VisionFamily { kInceptionNext, kConvNext };

constexpr int64_t kNumVisionStages = 4;

struct VisionStage {
  int64_t depth = 0;  // blocks
  int64_t channels = 0;
  int64_t hidden = 0;  // of the blocks' MLP
  int64_t branch = 0;  // channels of one branch of the Inception mixer; 0 for ConvNeXt
};

struct VisionConfig {
  std::string architecture;
  VisionFamily family = VisionFamily::kInceptionNext;
  std::array<VisionStage, kNumVisionStages> stages;
  int64_t band = 0;         // taps of the mixer's band kernels; 0 for ConvNeXt
  int64_t head_hidden = 0;  // of the head's MLP; 0 for ConvNeXt
  int64_t num_classes = 0;
};

/// The shape of a checkpoint's tensor; empty when there is none of that name.
using ShapeOf = std::function<std::optional<Shape>(const std::string& name)>;

/// Names that vision_config takes: the known sizes, then the families.
std::vector<std::string> vision_architectures();

/// Number of classes from the head's tensor; the rest from the name, or from the tensors where the
/// name is a family's. `source` opens every error.
Result<VisionConfig> vision_config(const std::string& architecture, const ShapeOf& shape_of,
                                   const std::string& source);

}  // namespace comet::models
