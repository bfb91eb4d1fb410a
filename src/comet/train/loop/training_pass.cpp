#include "comet/train/loop/training_pass.h"

#include "comet/io/image/preprocessing.h"
#include "comet/ops/cross_entropy/cross_entropy.h"
#include "comet/ops/op_table.h"
#include "comet/train/recipe/mixing.h"

namespace comet::train {
namespace {

/// Streams of draws beside those of the loader and of the weights.
constexpr uint64_t kMixStream = 0x6D697800;
constexpr uint64_t kKeepStream = 0x6B656570;

Rng draws(const Recipe& recipe, uint64_t stream, int64_t position) {
  return Rng(recipe.seed ^ stream, static_cast<uint64_t>(position));
}

}  // namespace

Status TrainingPass::stage(const ImageBatch& batch) {
  const int64_t num_classes = model_.config().network.num_classes;
  for (const int32_t label : batch.labels) {
    if (label < 0 || label >= num_classes) {
      return make_error(ErrorCode::kInvalidArgument,
                        "the data has a label of {}; the network has {} classes", label,
                        num_classes);
    }
  }
  if (!pixels_.defined()) allocate(batch);
  labels_ = batch.labels;
  write_to_device(ctx_, pixels_, borrow(batch.pixels, pixels_.shape()));
  return {};
}

void TrainingPass::allocate(const ImageBatch& batch) {
  const int64_t n = batch.num_images();
  const Shape shape{n, batch.image_size, batch.image_size, 3};
  pixels_ = allocate_tensor(ctx_.memory, DType::kU8, shape);
  images_ = allocate_tensor(ctx_.memory, ctx_.ops.product_dtype, shape);
  const auto floats = [&](const Shape& of) {
    return allocate_tensor(ctx_.memory, DType::kF32, of);
  };
  targets_ = floats({n, model_.config().network.num_classes});
  losses_ = floats({n});
  if (recipe_.drop_path > 0) keep_ = floats({model_.num_blocks(), n});
}

void TrainingPass::launch(int64_t position) {
  Rng mix_rng = draws(recipe_, kMixStream, position);
  Mix mix = draw_mix(recipe_, mix_rng);
  const io::Normalization normalization;
  mix.input.mean = normalization.mean;
  mix.input.std = normalization.std;
  image_input(ctx_, images_, pixels_.view<const uint8_t, 4>(), mix.input);
  const auto targets = soft_targets(labels_, targets_.size(1), recipe_.label_smoothing, mix.share);
  write_to_device(ctx_, targets_, borrow(targets, targets_.shape()));
  if (keep_.defined()) {
    Rng keep_rng = draws(recipe_, kKeepStream, position);
    const auto keep = draw_keep(keep_.size(0), keep_.size(1), recipe_.drop_path, keep_rng);
    write_to_device(ctx_, keep_, borrow(keep, keep_.shape()));
  }
  replay_.run(ctx_, [this] { compute(); });
}

void TrainingPass::compute() {
  const ArenaScope scope(ctx_.arena);
  const Tensor logits = model_.forward(ctx_, images_, {true, keep_});
  const int64_t n = images_.size(0);
  const auto scale = static_cast<float>(1.0 / static_cast<double>(n * recipe_.grad_accum_steps));
  cross_entropy(ctx_, losses_.view<float, 1>(), logits, logits, targets_.view<const float, 2>(),
                scale);
  model_.backward(ctx_, logits);
}

double TrainingPass::loss() {
  const Tensor losses = copy_to_host(ctx_, losses_);
  double sum = 0;
  for (int64_t i = 0; i < losses.size(0); ++i) sum += double{losses.data<float>()[i]};
  return sum / static_cast<double>(losses.size(0));
}

}  // namespace comet::train
