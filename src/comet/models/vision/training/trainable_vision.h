// TrainableVision: InceptionNeXt and ConvNeXt with forward and backward passes, norms and layer
// scales as parameters of their own. Callers: train. A step is: forward, the loss's gradient,
// backward, all within one ArenaScope; gradients are added to parameters().grads().
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "comet/models/vision/training/trainable_block.h"
#include "comet/models/vision/vision_config.h"

namespace comet::models {

struct TrainableVisionConfig {
  VisionConfig network;
  /// Of InceptionNeXt: an odd size puts a depthwise convolution of all channels in the mixers'
  /// place, for studies. 0: as the architecture has it.
  int64_t depthwise_kernel = 0;
};

/// The sizes of a known architecture with a head for so many classes.
Result<TrainableVisionConfig> trainable_config(const std::string& architecture,
                                               int64_t num_classes);

class TrainableVision {
 public:
  TrainableVision(Context& ctx, const TrainableVisionConfig& config);

  /// As timm begins: weights normal with deviation 0.02, biases 0, norms 1, γ 1e-6. Every tensor is
  /// drawn by seed and name.
  void initialize(Context& ctx, uint64_t seed);
  Status load(Context& ctx, const formats::TensorSource& tensors) {
    return parameters_.load(ctx, tensors);
  }

  struct Mode {
    bool training = false;
    Tensor keep;  // of drop path: [num_blocks(), images], FP32; undefined: nothing is dropped
  };
  /// Logits [images, classes] of images [n, height, width, 3], at least 32 × 32, of the device's
  /// product type. In training a batch norm sees at least two pixels.
  Tensor forward(Context& ctx, const Tensor& images, const Mode& mode);
  /// Of the last forward() in training.
  void backward(Context& ctx, const Tensor& dlogits);

  [[nodiscard]] nn::ParameterSet& parameters() { return parameters_; }
  [[nodiscard]] const nn::ParameterSet& parameters() const { return parameters_; }
  [[nodiscard]] const TrainableVisionConfig& config() const { return config_; }
  [[nodiscard]] int64_t num_blocks() const;

 private:
  struct Stage {
    nn::TrainablePatchConv entry;  // the stem, or the downsampling convolution
    nn::TrainableNorm norm;        // behind the stem, before a downsampling convolution
    std::vector<TrainableBlock> blocks;
    nn::TrainablePatchConv::Saved saved_entry;
    nn::TrainableNorm::Saved saved_norm;
  };
  void add_stage(size_t stage_idx);
  void add_head();
  [[nodiscard]] TrainableBlock::Parts block_parts(const std::string& prefix,
                                                  const VisionStage& stage);
  Tensor enter_stage(Context& ctx, size_t stage_idx, const Tensor& x, bool training);
  Tensor leave_stage_backward(Context& ctx, size_t stage_idx, const Tensor& dx);
  Tensor run_head(Context& ctx, const Tensor& pooled, bool training);
  Tensor run_head_backward(Context& ctx, const Tensor& dlogits);

  TrainableVisionConfig config_;
  nn::ParameterSet parameters_;
  std::vector<Stage> stages_;
  std::optional<nn::TrainableLinear> head_fc1_;  // of InceptionNeXt
  nn::TrainableNorm head_norm_;
  nn::TrainableLinear head_;

  struct SavedHead {
    Shape map_shape;  // of the last stage
    Tensor pooled, hidden, normed;
    nn::TrainableNorm::Saved norm;
  };
  SavedHead saved_head_;
};

}  // namespace comet::models
