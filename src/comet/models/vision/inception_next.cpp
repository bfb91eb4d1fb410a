#include "comet/models/vision/inception_next.h"

#include "comet/ops/op_table.h"

namespace comet::models {
namespace {

constexpr double kBatchNormEps = 1e-5;
constexpr float kHeadNormEps = 1e-6F;
constexpr int64_t kStemPatch = 4;
constexpr int64_t kDownsamplePatch = 2;

/// Convolution 4×4, then batch norm.
Result<nn::PatchConv> load_stem(int64_t channels, const formats::TensorSource& tensors,
                                const Caps& caps) {
  auto conv = nn::FloatLinear::load("stem.0.", Shape{channels, 3, kStemPatch, kStemPatch}, tensors);
  if (!conv) return conv.error();
  const auto norm = nn::load_batch_norm("stem.1.", channels, kBatchNormEps, tensors);
  if (!norm) return norm.error();
  conv->fold_output(*norm);
  auto product = conv->plan(caps);
  if (!product) return product.error();
  return nn::PatchConv(*std::move(product), kStemPatch);
}

/// Batch norm, then convolution 2×2.
Result<nn::PatchConv> load_downsample(const std::string& prefix, int64_t from, int64_t to,
                                      const formats::TensorSource& tensors, const Caps& caps) {
  const auto norm = nn::load_batch_norm(prefix + "0.", from, kBatchNormEps, tensors);
  if (!norm) return norm.error();
  auto conv = nn::FloatLinear::load(prefix + "1.",
                                    Shape{to, from, kDownsamplePatch, kDownsamplePatch}, tensors);
  if (!conv) return conv.error();
  conv->fold_input(*norm);
  auto product = conv->plan(caps);
  if (!product) return product.error();
  return nn::PatchConv(*std::move(product), kDownsamplePatch);
}

Result<nn::GeluMlp> load_mlp(const std::string& prefix, const VisionStage& stage,
                             const formats::TensorSource& tensors, const Caps& caps) {
  const int64_t channels = stage.channels;
  const auto norm = nn::load_batch_norm(prefix + "norm.", channels, kBatchNormEps, tensors);
  if (!norm) return norm.error();
  const auto gamma = nn::load_layer_scale(prefix + "gamma", channels, tensors);
  if (!gamma) return gamma.error();
  auto fc1 =
      nn::FloatLinear::load(prefix + "mlp.fc1.", Shape{stage.hidden, channels, 1, 1}, tensors);
  if (!fc1) return fc1.error();
  auto fc2 =
      nn::FloatLinear::load(prefix + "mlp.fc2.", Shape{channels, stage.hidden, 1, 1}, tensors);
  if (!fc2) return fc2.error();
  fc1->fold_input(*norm);
  fc2->fold_output(*gamma);
  auto first = fc1->plan(caps);
  if (!first) return first.error();
  auto second = fc2->plan(caps);
  if (!second) return second.error();
  return nn::GeluMlp{*std::move(first), *std::move(second)};
}

}  // namespace

Result<InceptionNextBlock> InceptionNextBlock::load(const std::string& prefix,
                                                    const VisionStage& stage, int64_t band,
                                                    const formats::TensorSource& tensors,
                                                    const Caps& caps) {
  auto mixer = nn::InceptionMixer::load(prefix + "token_mixer.", stage.branch, band, tensors);
  if (!mixer) return mixer.error();
  auto mlp = load_mlp(prefix, stage, tensors, caps);
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

Status InceptionNext::load_head(const formats::TensorSource& tensors, const Caps& caps) {
  const int64_t hidden = config().head_hidden;
  const auto fc1 =
      nn::FloatLinear::load("head.fc1.", Shape{hidden, config().stages.back().channels}, tensors);
  if (!fc1) return fc1.error();
  auto norm = nn::LayerNorm::load("head.norm.", hidden, kHeadNormEps, tensors);
  if (!norm) return norm.error();
  const auto fc2 = nn::FloatLinear::load("head.fc2.", Shape{config().num_classes, hidden}, tensors);
  if (!fc2) return fc2.error();
  auto first = fc1->plan(caps);
  if (!first) return first.error();
  auto second = fc2->plan(caps);
  if (!second) return second.error();
  head_fc1_ = *std::move(first);
  head_norm_ = *std::move(norm);
  head_fc2_ = *std::move(second);
  return {};
}

Result<std::unique_ptr<VisionModel>> InceptionNext::load(const VisionConfig& config,
                                                         const formats::TensorSource& tensors,
                                                         const Caps& caps) {
  std::unique_ptr<InceptionNext> model(new InceptionNext(config));
  for (size_t i = 0; i < config.stages.size(); ++i) {
    const VisionStage& stage = config.stages[i];
    const std::string prefix = fmt::format("stages.{}.", i);
    auto entry = i == 0 ? load_stem(stage.channels, tensors, caps)
                        : load_downsample(prefix + "downsample.", config.stages[i - 1].channels,
                                          stage.channels, tensors, caps);
    if (!entry) return entry.error();
    model->stages_[i].entry = *std::move(entry);
    for (int64_t block_idx = 0; block_idx < stage.depth; ++block_idx) {
      auto block = InceptionNextBlock::load(fmt::format("{}blocks.{}.", prefix, block_idx), stage,
                                            config.band, tensors, caps);
      if (!block) return block.error();
      model->stages_[i].blocks.push_back(*std::move(block));
    }
  }
  if (const Status loaded = model->load_head(tensors, caps); !loaded) return loaded.error();
  return std::unique_ptr<VisionModel>(std::move(model));
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
