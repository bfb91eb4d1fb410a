// The tensors that a classifier's checkpoint has, by timm's names, and how one that has others is
// told apart. Callers: apps before they load, the trainer before it saves or resumes.
#pragma once

#include <string>
#include <vector>

#include "comet/io/checkpoint.h"
#include "comet/models/vision/vision_config.h"

namespace comet::models {

struct VisionTensor {
  std::string name;
  Shape shape;
};

/// Whether config.json says that its products are quantized.
bool is_quantized(const io::Checkpoint& checkpoint);

/// The shapes of a checkpoint under the names of one of floats. Of what a quantized one has folded
/// or packed, the first size alone is known: that of the bias.
ShapeOf checkpoint_shapes(const io::Checkpoint& checkpoint);

/// Of floats, in the order of a forward pass; batch norms' num_batches_tracked, which nothing
/// reads, is left out.
std::vector<VisionTensor> vision_tensors(const VisionConfig& config);

/// An error that says which tensors (of a quantized one: which products or tensors) `checkpoint`
/// lacks, has in another shape or has too many for the architecture in its config.json, and which
/// architecture it looks like.
Status check_vision_checkpoint(const io::Checkpoint& checkpoint);

}  // namespace comet::models
