#include "comet/models/vision/convnext.h"

namespace comet::models {
namespace {

constexpr float kNormEps = 1e-6F;
constexpr int64_t kStemPatch = 4;
constexpr int64_t kDownsamplePatch = 2;
constexpr int64_t kKernel = 7;

struct Entry {
  std::string conv;
  std::string norm;
  Shape weight_shape;
  int64_t norm_size;
};

Entry entry_of(const VisionConfig& config, size_t stage_idx) {
  const int64_t channels = config.stages[stage_idx].channels;
  if (stage_idx == 0) {
    return {"stem.0.", "stem.1.", {channels, 3, kStemPatch, kStemPatch}, channels};
  }
  const int64_t from = config.stages[stage_idx - 1].channels;
  const std::string prefix = fmt::format("stages.{}.downsample.", stage_idx);
  return {prefix + "1.", prefix + "0.", {channels, from, kDownsamplePatch, kDownsamplePatch}, from};
}

Status load_entry(const Entry& entry, const formats::TensorSource& tensors, const Caps& caps,
                  ConvNextStage& stage) {
  const auto conv = nn::FloatLinear::load(entry.conv, entry.weight_shape, tensors);
  if (!conv) return conv.error();
  auto norm = nn::LayerNorm::load(entry.norm, entry.norm_size, kNormEps, tensors);
  if (!norm) return norm.error();
  auto product = conv->plan(caps);
  if (!product) return product.error();
  stage.entry = nn::PatchConv(*std::move(product), entry.weight_shape[2]);
  stage.entry_norm = *std::move(norm);
  return {};
}

Result<nn::GeluMlp> load_mlp(const std::string& prefix, const VisionStage& stage,
                             const formats::TensorSource& tensors, const Caps& caps) {
  const int64_t channels = stage.channels;
  const auto gamma = nn::load_layer_scale(prefix + "gamma", channels, tensors);
  if (!gamma) return gamma.error();
  const auto fc1 =
      nn::FloatLinear::load(prefix + "mlp.fc1.", Shape{stage.hidden, channels}, tensors);
  if (!fc1) return fc1.error();
  auto fc2 = nn::FloatLinear::load(prefix + "mlp.fc2.", Shape{channels, stage.hidden}, tensors);
  if (!fc2) return fc2.error();
  fc2->fold_output(*gamma);
  auto first = fc1->plan(caps);
  if (!first) return first.error();
  auto second = fc2->plan(caps);
  if (!second) return second.error();
  return nn::GeluMlp{*std::move(first), *std::move(second)};
}

}  // namespace

Result<ConvNextBlock> ConvNextBlock::load(const std::string& prefix, const VisionStage& stage,
                                          const formats::TensorSource& tensors, const Caps& caps) {
  auto mixer = nn::DepthwiseConv::load(prefix + "conv_dw.",
                                       Shape{stage.channels, 1, kKernel, kKernel}, tensors);
  if (!mixer) return mixer.error();
  auto norm = nn::LayerNorm::load(prefix + "norm.", stage.channels, kNormEps, tensors);
  if (!norm) return norm.error();
  auto mlp = load_mlp(prefix, stage, tensors, caps);
  if (!mlp) return mlp.error();
  return ConvNextBlock{*std::move(mixer), *std::move(norm), *std::move(mlp)};
}

void ConvNextBlock::forward(Context& ctx, const Tensor& x) const {
  const ArenaScope scope(ctx.arena);
  const Tensor mixed = nn::pixel_rows(mixer(ctx, x));
  norm(ctx, mixed);
  mlp.add_to(ctx, nn::pixel_rows(x), mixed);
}

Status ConvNextBlock::move_to_device(Context& ctx) {
  mixer.move_to_device(ctx);
  norm.move_to_device(ctx);
  return mlp.move_to_device(ctx);
}

Status ConvNext::load_head(const formats::TensorSource& tensors, const Caps& caps) {
  const int64_t channels = config().stages.back().channels;
  auto norm = nn::LayerNorm::load("head.norm.", channels, kNormEps, tensors);
  if (!norm) return norm.error();
  const auto fc = nn::FloatLinear::load("head.fc.", Shape{config().num_classes, channels}, tensors);
  if (!fc) return fc.error();
  auto product = fc->plan(caps);
  if (!product) return product.error();
  head_norm_ = *std::move(norm);
  head_ = *std::move(product);
  return {};
}

Result<std::unique_ptr<VisionModel>> ConvNext::load(const VisionConfig& config,
                                                    const formats::TensorSource& tensors,
                                                    const Caps& caps) {
  std::unique_ptr<ConvNext> model(new ConvNext(config));
  for (size_t i = 0; i < config.stages.size(); ++i) {
    ConvNextStage& stage = model->stages_[i];
    const Status entered = load_entry(entry_of(config, i), tensors, caps, stage);
    if (!entered) return entered.error();
    for (int64_t block_idx = 0; block_idx < config.stages[i].depth; ++block_idx) {
      auto block = ConvNextBlock::load(fmt::format("stages.{}.blocks.{}.", i, block_idx),
                                       config.stages[i], tensors, caps);
      if (!block) return block.error();
      stage.blocks.push_back(*std::move(block));
    }
  }
  if (const Status loaded = model->load_head(tensors, caps); !loaded) return loaded.error();
  return std::unique_ptr<VisionModel>(std::move(model));
}

Status ConvNext::move_to_device(Context& ctx) {
  for (ConvNextStage& stage : stages_) {
    if (const Status moved = stage.entry.move_to_device(ctx); !moved) return moved;
    stage.entry_norm.move_to_device(ctx);
    for (ConvNextBlock& block : stage.blocks) {
      if (const Status moved = block.move_to_device(ctx); !moved) return moved;
    }
  }
  head_norm_.move_to_device(ctx);
  return head_.move_to_device(ctx);
}

StageMaps ConvNext::run_stages(Context& ctx, const Tensor& images) const {
  StageMaps maps;
  Tensor x = images;
  for (size_t i = 0; i < stages_.size(); ++i) {
    const ConvNextStage& stage = stages_[i];
    if (i > 0) {  // a copy: the map before the norm is a result of its own
      const Tensor normed = ctx.arena.alloc(x.dtype(), x.shape());
      layer_norm(ctx, nn::pixel_rows(normed), nn::pixel_rows(x), stage.entry_norm.weights());
      x = normed;
    }
    x = stage.entry(ctx, x);
    if (i == 0) stage.entry_norm(ctx, nn::pixel_rows(x));
    for (const ConvNextBlock& block : stage.blocks) block.forward(ctx, x);
    maps[i] = x;
  }
  return maps;
}

void ConvNext::run_head(Context& ctx, const Tensor& pooled, const Tensor& logits) const {
  head_norm_(ctx, pooled);
  head_(ctx, pooled, Rows(logits));
}

}  // namespace comet::models
