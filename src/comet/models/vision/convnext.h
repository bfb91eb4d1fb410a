// ConvNeXt (Liu et al.: "A ConvNet for the 2020s", CVPR 2022) at inference:
// out = x + γ · MLP(LayerNorm(depthwise 7×7(x))). γ is folded into the product before it.
// Callers: vision_model.cpp.
#pragma once

#include <memory>
#include <vector>

#include "comet/models/vision/vision_model.h"

namespace comet::models {

struct ConvNextBlock {
  nn::DepthwiseConv mixer;
  nn::LayerNorm norm;
  nn::GeluMlp mlp;  // with γ behind it

  static Result<ConvNextBlock> load(const VisionConfig& config, size_t stage_idx, int64_t block_idx,
                                    const VisionWeights& weights);
  Status move_to_device(Context& ctx);
  /// x [images, height, width, channels] += the block's branch.
  void forward(Context& ctx, const Tensor& x) const;
};

/// The stem's norm follows its convolution; that of a downsampling goes before it.
struct ConvNextStage {
  nn::PatchConv entry;
  nn::LayerNorm entry_norm;
  std::vector<ConvNextBlock> blocks;
};

class ConvNext final : public VisionModel {
 public:
  static Result<std::unique_ptr<VisionModel>> load(const VisionConfig& config,
                                                   const VisionWeights& weights);
  void for_each_product(const ProductVisitor& visit) override;

 private:
  explicit ConvNext(const VisionConfig& config) : VisionModel(config) {}
  Status load_head(const VisionWeights& weights);
  Status move_to_device(Context& ctx) override;
  [[nodiscard]] StageMaps run_stages(Context& ctx, const Tensor& images) const override;
  void run_head(Context& ctx, const Tensor& pooled, const Tensor& logits) const override;

  std::array<ConvNextStage, kNumVisionStages> stages_;
  nn::LayerNorm head_norm_;
  nn::Linear head_;
};

}  // namespace comet::models
