// The products of a classifier (stem, downsampling, the MLPs' and the head's linears): which of
// timm's tensors become part of each at load, and how a checkpoint holds it: as floats that are
// folded here, or folded and quantized already, with a quantization_config. Callers: the
// architectures, vision_tensors, quant/vision.
#pragma once

#include <string>
#include <vector>

#include "comet/formats/schemes/bind_linear.h"
#include "comet/models/vision/vision_config.h"
#include "comet/nn/folding.h"
#include "comet/nn/image_layers.h"

namespace comet::models {

/// y = scale_after · norm_after(W · norm_before(x) + bias); an empty name: there is none.
struct VisionProduct {
  std::string name;              // "stages.0.blocks.0.mlp.fc1"
  Shape weight_shape;            // timm's: [n, k], or [n, channels, height, width]
  std::string norm_before = {};  // prefix of a batch norm
  std::string norm_after = {};   // likewise
  std::string scale_after = {};  // a layer scale

  [[nodiscard]] int64_t n() const { return weight_shape[0]; }
  [[nodiscard]] int64_t k() const { return weight_shape.num_elements() / weight_shape[0]; }
  /// The tensors of floats that it is made of, its own weight and bias first.
  [[nodiscard]] std::vector<std::string> tensor_names() const;
};

VisionProduct stem_product(const VisionConfig& config);
/// Of stage 1 or later.
VisionProduct downsample_product(const VisionConfig& config, size_t stage_idx);
struct MlpProducts {
  VisionProduct fc1, fc2;
};
MlpProducts mlp_products(const VisionConfig& config, size_t stage_idx, int64_t block_idx);
/// InceptionNeXt: fc1 and fc2; ConvNeXt: fc.
std::vector<VisionProduct> head_products(const VisionConfig& config);

/// In the order of a forward pass.
std::vector<VisionProduct> vision_products(const VisionConfig& config);
/// All but the stem, which sees the pixels and has few channels.
bool is_quantized_product(const VisionProduct& product);

/// As formats bind it: one part, with a bias.
formats::LinearSpec linear_spec(const VisionProduct& product);

/// Reads a product's floats and folds what belongs to it.
Result<nn::FloatLinear> fold_product(const VisionProduct& product,
                                     const formats::TensorSource& tensors);

/// How a checkpoint holds the products of its classifier.
struct VisionWeights {
  const formats::TensorSource& tensors;
  const formats::ModelScheme* scheme = nullptr;  // null: floats under timm's names, not folded
  const Caps& caps;
};

/// The product as a linear, planned for the device.
Result<nn::Linear> load_product(const VisionProduct& product, const VisionWeights& weights);
Result<nn::GeluMlp> load_mlp(const MlpProducts& products, const VisionWeights& weights);

}  // namespace comet::models
