// InceptionNeXt (Yu, Zhou, Yan, Wang: "When Inception Meets ConvNeXt", CVPR 2024) at inference:
// out = x + γ · MLP(BN(mixer(x))). Batch norms and γ are folded into the products beside them.
// Callers: vision_model.cpp.
#pragma once

#include <memory>
#include <vector>

#include "comet/models/vision/vision_model.h"

namespace comet::models {

struct InceptionNextBlock {
  nn::InceptionMixer mixer;
  nn::GeluMlp mlp;  // with the batch norm before it and γ behind it

  static Result<InceptionNextBlock> load(const VisionConfig& config, size_t stage_idx,
                                         int64_t block_idx, const VisionWeights& weights);
  Status move_to_device(Context& ctx);
  /// x [images, height, width, channels] += the block's branch.
  void forward(Context& ctx, const Tensor& x) const;
};

struct InceptionNextStage {
  nn::PatchConv entry;  // the stem, or the downsampling convolution with its batch norm
  std::vector<InceptionNextBlock> blocks;
};

class InceptionNext final : public VisionModel {
 public:
  static Result<std::unique_ptr<VisionModel>> load(const VisionConfig& config,
                                                   const VisionWeights& weights);
  void for_each_product(const ProductVisitor& visit) override;

 private:
  explicit InceptionNext(const VisionConfig& config) : VisionModel(config) {}
  Status load_head(const VisionWeights& weights);
  Status move_to_device(Context& ctx) override;
  [[nodiscard]] StageMaps run_stages(Context& ctx, const Tensor& images) const override;
  void run_head(Context& ctx, const Tensor& pooled, const Tensor& logits) const override;

  std::array<InceptionNextStage, kNumVisionStages> stages_;
  nn::Linear head_fc1_;
  nn::LayerNorm head_norm_;
  nn::Linear head_fc2_;
};

}  // namespace comet::models
