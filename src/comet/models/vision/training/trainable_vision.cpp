#include "comet/models/vision/training/trainable_vision.h"

#include "comet/base/hash.h"
#include "comet/base/rng.h"
#include "comet/ops/average_pool/average_pool_backward.h"
#include "comet/ops/gelu/gelu_backward.h"

namespace comet::models {
namespace {

constexpr int64_t kStemPatch = 4;
constexpr int64_t kDownsamplePatch = 2;
constexpr int64_t kConvNextKernel = 7;

bool is_inception(const TrainableVisionConfig& config) {
  return config.network.family == VisionFamily::kInceptionNext;
}

nn::NormKind norm_kind(const TrainableVisionConfig& config) {
  return is_inception(config) ? nn::NormKind::kBatch : nn::NormKind::kLayer;
}

/// Images × rows of one block of keep [blocks, images].
Tensor keep_of(const Tensor& keep, int64_t block_idx) {
  if (!keep.defined()) return {};
  return keep.slice(0, block_idx, block_idx + 1).reshape({keep.size(1)});
}

}  // namespace

Result<TrainableVisionConfig> trainable_config(const std::string& architecture,
                                               int64_t num_classes) {
  const ShapeOf shape_of = [num_classes](const std::string& name) -> std::optional<Shape> {
    if (name == "head.fc2.weight" || name == "head.fc.weight") return Shape{num_classes, 1};
    return std::nullopt;
  };
  auto network = vision_config(architecture, shape_of, "a new network");
  if (!network) return network.error();
  return TrainableVisionConfig{*std::move(network), 0};
}

TrainableVision::TrainableVision(Context& ctx, const TrainableVisionConfig& config)
    : config_(config) {
  stages_.resize(config.network.stages.size());
  for (size_t i = 0; i < stages_.size(); ++i) add_stage(i);
  add_head();
  parameters_.allocate(ctx);
}

void TrainableVision::add_stage(size_t stage_idx) {
  Stage& stage = stages_[stage_idx];
  const VisionStage& sizes = config_.network.stages[stage_idx];
  if (stage_idx == 0) {
    stage.entry = {parameters_, "stem.0.", {sizes.channels, 3, kStemPatch, kStemPatch}};
    stage.norm = {parameters_, "stem.1.", norm_kind(config_), sizes.channels};
  } else {
    const int64_t from = config_.network.stages[stage_idx - 1].channels;
    const std::string prefix = fmt::format("stages.{}.downsample.", stage_idx);
    stage.norm = {parameters_, prefix + "0.", norm_kind(config_), from};
    stage.entry = {
        parameters_, prefix + "1.", {sizes.channels, from, kDownsamplePatch, kDownsamplePatch}};
  }
  for (int64_t block_idx = 0; block_idx < sizes.depth; ++block_idx) {
    const std::string prefix = fmt::format("stages.{}.blocks.{}.", stage_idx, block_idx);
    const TrainableBlock::Parts parts = block_parts(prefix, sizes);
    const bool convolution = is_inception(config_);  // timm stores 1 × 1 convolutions
    const Shape fc1 = convolution ? Shape{sizes.hidden, sizes.channels, 1, 1}
                                  : Shape{sizes.hidden, sizes.channels};
    const Shape fc2 = convolution ? Shape{sizes.channels, sizes.hidden, 1, 1}
                                  : Shape{sizes.channels, sizes.hidden};
    stage.blocks.emplace_back(parameters_, prefix, parts, fc1, fc2);
  }
}

TrainableBlock::Parts TrainableVision::block_parts(const std::string& prefix,
                                                   const VisionStage& stage) {
  TrainableBlock::Parts parts;
  if (!is_inception(config_)) {
    parts.mixer = {parameters_, prefix + "conv_dw.", stage.channels, kConvNextKernel};
  } else if (config_.depthwise_kernel > 0) {
    parts.mixer = {parameters_, prefix + "token_mixer.", stage.channels, config_.depthwise_kernel};
  } else {
    const nn::TrainableMixer::Inception sizes{stage.branch, config_.network.band};
    parts.mixer = {parameters_, prefix + "token_mixer.", sizes};
  }
  parts.norm = {parameters_, prefix + "norm.", norm_kind(config_), stage.channels};
  return parts;
}

void TrainableVision::add_head() {
  const VisionConfig& network = config_.network;
  const int64_t channels = network.stages.back().channels;
  if (is_inception(config_)) {
    head_fc1_.emplace(parameters_, "head.fc1.", Shape{network.head_hidden, channels});
    head_norm_ = {parameters_, "head.norm.", nn::NormKind::kLayer, network.head_hidden};
    head_ = {parameters_, "head.fc2.", {network.num_classes, network.head_hidden}};
  } else {
    head_norm_ = {parameters_, "head.norm.", nn::NormKind::kLayer, channels};
    head_ = {parameters_, "head.fc.", {network.num_classes, channels}};
  }
}

void TrainableVision::initialize(Context& ctx, uint64_t seed) {
  constexpr float kDeviation = 0.02F;
  constexpr float kGamma = 1e-6F;
  std::vector<float> values(static_cast<size_t>(parameters_.values().num_elements()));
  for (const nn::Parameter& parameter : parameters_.parameters()) {
    float* to = values.data() + parameter.offset;
    const int64_t size = parameter.shape.num_elements();
    if (parameter.stored_shape.rank() > 1) {
      Fnv1a stream;
      stream.add(parameter.name);
      Rng rng(seed, stream.value());
      for (int64_t i = 0; i < size; ++i) to[i] = kDeviation * rng.next_normal();
    } else if (parameter.name.ends_with("gamma")) {
      std::fill_n(to, size, kGamma);
    } else if (parameter.name.ends_with("weight")) {
      std::fill_n(to, size, 1.0F);
    }
  }
  parameters_.set_values(ctx, values);
  std::vector<float> buffers(static_cast<size_t>(parameters_.buffer_values().num_elements()));
  for (const nn::Parameter& buffer : parameters_.buffers()) {
    if (!buffer.name.ends_with("running_var")) continue;
    std::fill_n(buffers.data() + buffer.offset, buffer.shape.num_elements(), 1.0F);
  }
  parameters_.set_buffers(ctx, buffers);
}

int64_t TrainableVision::num_blocks() const {
  int64_t count = 0;
  for (const VisionStage& stage : config_.network.stages) count += stage.depth;
  return count;
}

Tensor TrainableVision::forward(Context& ctx, const Tensor& images, const Mode& mode) {
  Tensor x = images;
  int64_t block_idx = 0;
  for (size_t i = 0; i < stages_.size(); ++i) {
    x = enter_stage(ctx, i, x, mode.training);
    for (TrainableBlock& block : stages_[i].blocks) {
      x = block.forward(ctx, x, mode.training, keep_of(mode.keep, block_idx++));
    }
  }
  saved_head_.map_shape = x.shape();
  const Tensor pooled = nn::activations(ctx, {x.size(0), x.size(3)});
  average_pool(ctx, pooled, x);
  return run_head(ctx, pooled, mode.training);
}

Tensor TrainableVision::enter_stage(Context& ctx, size_t stage_idx, const Tensor& x,
                                    bool training) {
  Stage& stage = stages_[stage_idx];
  if (stage_idx == 0) {
    const Tensor patches = stage.entry.forward(ctx, x, stage.saved_entry);
    return stage.norm.forward(ctx, patches, training, stage.saved_norm);
  }
  const Tensor normed = stage.norm.forward(ctx, x, training, stage.saved_norm);
  return stage.entry.forward(ctx, normed, stage.saved_entry);
}

Tensor TrainableVision::run_head(Context& ctx, const Tensor& pooled, bool training) {
  saved_head_.pooled = pooled;
  Tensor x = pooled;
  if (head_fc1_) {
    saved_head_.hidden = head_fc1_->forward(ctx, pooled);
    x = nn::activations_like(ctx, saved_head_.hidden);
    gelu(ctx, x, saved_head_.hidden);
  }
  saved_head_.normed = head_norm_.forward(ctx, x, training, saved_head_.norm);
  return head_.forward(ctx, saved_head_.normed);
}

void TrainableVision::backward(Context& ctx, const Tensor& dlogits) {
  const ArenaScope scope(ctx.arena);
  const Tensor dpooled = run_head_backward(ctx, dlogits);
  Tensor dx = nn::activations(ctx, saved_head_.map_shape);
  average_pool_backward(ctx, dx, dpooled);
  for (size_t i = stages_.size(); i-- > 0;) {
    std::vector<TrainableBlock>& blocks = stages_[i].blocks;
    for (size_t block_idx = blocks.size(); block_idx-- > 0;) blocks[block_idx].backward(ctx, dx);
    if (i > 0) {
      dx = leave_stage_backward(ctx, i, dx);
    } else {
      const Tensor dpatches = stages_[0].norm.backward(ctx, dx, stages_[0].saved_norm);
      stages_[0].entry.backward_weights(ctx, dpatches, stages_[0].saved_entry);
    }
  }
}

Tensor TrainableVision::run_head_backward(Context& ctx, const Tensor& dlogits) {
  const Tensor dnormed = head_.backward(ctx, dlogits, saved_head_.normed);
  const Tensor dx = head_norm_.backward(ctx, dnormed, saved_head_.norm);
  if (!head_fc1_) return dx;
  gelu_backward(ctx, dx, dx, saved_head_.hidden);
  return head_fc1_->backward(ctx, dx, saved_head_.pooled);
}

Tensor TrainableVision::leave_stage_backward(Context& ctx, size_t stage_idx, const Tensor& dx) {
  Stage& stage = stages_[stage_idx];
  const Tensor dnormed = stage.entry.backward(ctx, dx, stage.saved_entry);
  return stage.norm.backward(ctx, dnormed, stage.saved_norm);
}

}  // namespace comet::models
