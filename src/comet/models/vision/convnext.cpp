#include "comet/models/vision/convnext.h"

namespace comet::models {
namespace {

constexpr float kNormEps = 1e-6F;
constexpr int64_t kKernel = 7;

Status load_entry(const VisionConfig& config, size_t stage_idx, const VisionWeights& weights,
                  ConvNextStage& stage) {
  const bool is_stem = stage_idx == 0;
  const VisionProduct product =
      is_stem ? stem_product(config) : downsample_product(config, stage_idx);
  auto linear = load_product(product, weights);
  if (!linear) return linear.error();
  auto norm = nn::LayerNorm::load(
      is_stem ? "stem.1." : fmt::format("stages.{}.downsample.0.", stage_idx),
      config.stages[is_stem ? 0 : stage_idx - 1].channels, kNormEps, weights.tensors);
  if (!norm) return norm.error();
  stage.entry = nn::PatchConv(*std::move(linear), product.weight_shape[2]);
  stage.entry_norm = *std::move(norm);
  return {};
}

}  // namespace

Result<ConvNextBlock> ConvNextBlock::load(const VisionConfig& config, size_t stage_idx,
                                          int64_t block_idx, const VisionWeights& weights) {
  const std::string prefix = fmt::format("stages.{}.blocks.{}.", stage_idx, block_idx);
  const int64_t channels = config.stages[stage_idx].channels;
  auto mixer = nn::DepthwiseConv::load(prefix + "conv_dw.", Shape{channels, 1, kKernel, kKernel},
                                       weights.tensors);
  if (!mixer) return mixer.error();
  auto norm = nn::LayerNorm::load(prefix + "norm.", channels, kNormEps, weights.tensors);
  if (!norm) return norm.error();
  auto mlp = load_mlp(mlp_products(config, stage_idx, block_idx), weights);
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

Status ConvNext::load_head(const VisionWeights& weights) {
  auto norm =
      nn::LayerNorm::load("head.norm.", config().stages.back().channels, kNormEps, weights.tensors);
  if (!norm) return norm.error();
  auto fc = load_product(head_products(config()).at(0), weights);
  if (!fc) return fc.error();
  head_norm_ = *std::move(norm);
  head_ = *std::move(fc);
  return {};
}

Result<std::unique_ptr<VisionModel>> ConvNext::load(const VisionConfig& config,
                                                    const VisionWeights& weights) {
  std::unique_ptr<ConvNext> model(new ConvNext(config));
  for (size_t i = 0; i < config.stages.size(); ++i) {
    ConvNextStage& stage = model->stages_[i];
    if (const Status entered = load_entry(config, i, weights, stage); !entered) {
      return entered.error();
    }
    for (int64_t block_idx = 0; block_idx < config.stages[i].depth; ++block_idx) {
      auto block = ConvNextBlock::load(config, i, block_idx, weights);
      if (!block) return block.error();
      stage.blocks.push_back(*std::move(block));
    }
  }
  if (const Status loaded = model->load_head(weights); !loaded) return loaded.error();
  return std::unique_ptr<VisionModel>(std::move(model));
}

void ConvNext::for_each_product(const ProductVisitor& visit) {
  for (ConvNextStage& stage : stages_) {
    visit(stage.entry.product());
    for (ConvNextBlock& block : stage.blocks) {
      visit(block.mlp.fc1);
      visit(block.mlp.fc2);
    }
  }
  visit(head_);
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
