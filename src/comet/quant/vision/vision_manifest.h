// VisionManifest: quantization_config of a classifier, gathered product by product. Callers:
// quantize_vision.
#pragma once

#include "comet/formats/format.h"
#include "comet/models/vision/weights/vision_products.h"
#include "comet/quant/recipe.h"

namespace comet::quant {

class VisionManifest {
 public:
  void add(const models::VisionProduct& product, const formats::PackedLinear& packed);
  /// As read_quantization_config reads it: the stem is floats, and so is what no product is.
  [[nodiscard]] Json json(const formats::WeightFormat& format,
                          const QuantizeOptions& options) const;

 private:
  Json sites_ = Json::array();
  Json linears_ = Json::array();
  std::vector<std::string> undivided_;  // products whose channels are not groups of 128
};

}  // namespace comet::quant
