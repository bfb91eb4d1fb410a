#include "comet/models/vision/inception_next.h"

#include "comet/ops/op_table.h"

namespace comet::models {
namespace {

constexpr float kHeadNormEps = 1e-6F;

/// The stem, or the downsampling in front of a stage.
Result<nn::PatchConv> load_entry(const VisionConfig& config, size_t stage_idx,
                                 const VisionWeights& weights) {
  const VisionProduct product =
      stage_idx == 0 ? stem_product(config) : downsample_product(config, stage_idx);
  auto linear = load_product(product, weights);
  if (!linear) return linear.error();
  return nn::PatchConv(*std::move(linear), product.weight_shape[2]);
}

}  // namespace

Result<InceptionNextBlock> InceptionNextBlock::load(const VisionConfig& config, size_t stage_idx,
                                                    int64_t block_idx,
                                                    const VisionWeights& weights) {
  const std::string prefix = fmt::format("stages.{}.blocks.{}.token_mixer.", stage_idx, block_idx);
  auto mixer = nn::InceptionMixer::load(prefix, config.stages[stage_idx].branch, config.band,
                                        weights.tensors);
  if (!mixer) return mixer.error();
  auto mlp = load_mlp(mlp_products(config, stage_idx, block_idx), weights);
  if (!mlp) return mlp.error();
  return InceptionNextBlock{*std::move(mixer), *std::move(mlp)};
}

void InceptionNextBlock::forward(Context& ctx, const Tensor& x) const {
  const ArenaScope scope(ctx.arena);
  const Tensor mixed = mixer(ctx, x);
  mlp.add_to(ctx, nn::pixel_rows(x), nn::pixel_rows(mixed));
}

Status InceptionNextBlock::move_to_device(Context& ctx) {
  mixer.move_to_device(ctx);
  return mlp.move_to_device(ctx);
}

Status InceptionNext::load_head(const VisionWeights& weights) {
  const std::vector<VisionProduct> products = head_products(config());
  auto norm =
      nn::LayerNorm::load("head.norm.", config().head_hidden, kHeadNormEps, weights.tensors);
  if (!norm) return norm.error();
  auto fc1 = load_product(products.at(0), weights);
  if (!fc1) return fc1.error();
  auto fc2 = load_product(products.at(1), weights);
  if (!fc2) return fc2.error();
  head_fc1_ = *std::move(fc1);
  head_norm_ = *std::move(norm);
  head_fc2_ = *std::move(fc2);
  return {};
}

Result<std::unique_ptr<VisionModel>> InceptionNext::load(const VisionConfig& config,
                                                         const VisionWeights& weights) {
  std::unique_ptr<InceptionNext> model(new InceptionNext(config));
  for (size_t i = 0; i < config.stages.size(); ++i) {
    auto entry = load_entry(config, i, weights);
    if (!entry) return entry.error();
    model->stages_[i].entry = *std::move(entry);
    for (int64_t block_idx = 0; block_idx < config.stages[i].depth; ++block_idx) {
      auto block = InceptionNextBlock::load(config, i, block_idx, weights);
      if (!block) return block.error();
      model->stages_[i].blocks.push_back(*std::move(block));
    }
  }
  if (const Status loaded = model->load_head(weights); !loaded) return loaded.error();
  return std::unique_ptr<VisionModel>(std::move(model));
}

void InceptionNext::for_each_product(const ProductVisitor& visit) {
  for (InceptionNextStage& stage : stages_) {
    visit(stage.entry.product());
    for (InceptionNextBlock& block : stage.blocks) {
      visit(block.mlp.fc1);
      visit(block.mlp.fc2);
    }
  }
  visit(head_fc1_);
  visit(head_fc2_);
}

Status InceptionNext::move_to_device(Context& ctx) {
  for (InceptionNextStage& stage : stages_) {
    if (const Status moved = stage.entry.move_to_device(ctx); !moved) return moved;
    for (InceptionNextBlock& block : stage.blocks) {
      if (const Status moved = block.move_to_device(ctx); !moved) return moved;
    }
  }
  head_norm_.move_to_device(ctx);
  if (const Status moved = head_fc1_.move_to_device(ctx); !moved) return moved;
  return head_fc2_.move_to_device(ctx);
}

StageMaps InceptionNext::run_stages(Context& ctx, const Tensor& images) const {
  StageMaps maps;
  Tensor x = images;
  for (size_t i = 0; i < stages_.size(); ++i) {
    x = stages_[i].entry(ctx, x);
    for (const InceptionNextBlock& block : stages_[i].blocks) block.forward(ctx, x);
    maps[i] = x;
  }
  return maps;
}

void InceptionNext::run_head(Context& ctx, const Tensor& pooled, const Tensor& logits) const {
  const Tensor hidden =
      ctx.arena.alloc(ctx.ops.product_dtype, {pooled.size(0), head_fc1_.spec().n()});
  head_fc1_(ctx, pooled, hidden, formats::LinearEnd::kGelu);
  head_norm_(ctx, hidden);
  head_fc2_(ctx, hidden, Rows(logits));
}

}  // namespace comet::models
