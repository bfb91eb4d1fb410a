#include "comet/train/loop/trainer.h"

#include <algorithm>
#include <cmath>

#include "comet/ops/cross_entropy/cross_entropy.h"
#include "comet/train/recipe/mixing.h"
#include "comet/train/recipe/schedule.h"

namespace comet::train {
namespace {

/// Streams of draws beside those of the loader and of the weights.
constexpr uint64_t kMixStream = 0x6D697800;
constexpr uint64_t kKeepStream = 0x6B656570;

/// Draws of one forward pass.
Rng draws(const Recipe& recipe, uint64_t stream, int64_t step, int64_t pass_idx) {
  const auto position = static_cast<uint64_t>(step * recipe.grad_accum_steps + pass_idx);
  return Rng(recipe.seed ^ stream, position);
}

/// The tensor and what it borrows.
Tensor upload(Context& ctx, const std::vector<float>& values, const Shape& shape) {
  return copy_to_device(ctx, values, shape);
}

Status check_labels(const ImageBatch& batch, int64_t num_classes) {
  for (const int32_t label : batch.labels) {
    if (label < 0 || label >= num_classes) {
      return make_error(ErrorCode::kInvalidArgument,
                        "the data has a label of {}; the network has {} classes", label,
                        num_classes);
    }
  }
  return {};
}

}  // namespace

Trainer::Trainer(Context& ctx, const Recipe& recipe, models::TrainableVision& model,
                 BatchSource& data, BatchSource* validation, TrainerOptions options)
    : ctx_(ctx),
      recipe_(recipe),
      model_(model),
      data_(data),
      validation_(validation),
      options_(std::move(options)),
      optimizer_(ctx, recipe, model.parameters()) {}

void Trainer::begin() {
  model_.initialize(ctx_, recipe_.seed);
  optimizer_.start_average(ctx_);
}

Status Trainer::begin_from(const std::string& weights_directory) {
  const Status read = read_weights(ctx_, weights_directory, model_.parameters());
  if (read) optimizer_.start_average(ctx_);
  return read;
}

Status Trainer::resume(const CheckpointInfo& checkpoint) {
  const Status read = read_checkpoint(ctx_, checkpoint, model_.parameters(), optimizer_);
  if (read) state_ = checkpoint.state;
  return read;
}

int64_t Trainer::steps_per_epoch() const { return data_.num_batches() / recipe_.grad_accum_steps; }

int64_t Trainer::num_steps() const {
  const int64_t all = recipe_.epochs * steps_per_epoch();
  return options_.stop_after_steps > 0 ? std::min(all, options_.stop_after_steps) : all;
}

Status Trainer::run() {
  if (steps_per_epoch() == 0) {
    return make_error(ErrorCode::kInvalidArgument,
                      "the data has {} batches of {}, fewer than the {} of an optimizer step; take "
                      "a smaller batch_size",
                      data_.num_batches(), recipe_.batch_size, recipe_.grad_accum_steps);
  }
  data_.start(state_.num_steps / steps_per_epoch(),
              state_.num_steps % steps_per_epoch() * recipe_.grad_accum_steps);
  since_save_ = Stopwatch();
  while (!finished()) {
    const auto report = step();
    if (!report) return report.error();
    if (options_.on_step) options_.on_step(*report);
    const bool epoch_ends = state_.num_steps % steps_per_epoch() == 0;
    if (epoch_ends || finished()) {
      if (const Status ended = end_epoch(*report); !ended) return ended;
    }
    const bool stop = options_.stop_asked && options_.stop_asked();
    const bool due = options_.checkpoint_every_steps > 0 &&
                     state_.num_steps % options_.checkpoint_every_steps == 0;
    const bool overdue =
        options_.checkpoint_every_s > 0 && since_save_.seconds() > options_.checkpoint_every_s;
    if (epoch_ends || finished() || stop || due || overdue) {
      if (const Status saved = save(); !saved) return saved;
    }
    if (stop) return {};
    if (epoch_ends && data_.num_batches() % recipe_.grad_accum_steps != 0) {
      data_.start(state_.num_steps / steps_per_epoch(), 0);  // batches too few for a step
    }
  }
  return {};
}

Result<StepReport> Trainer::step() {
  StepReport report;
  report.epoch = state_.num_steps / steps_per_epoch();
  report.lr = learning_rate(recipe_, state_.num_steps, steps_per_epoch());
  optimizer_.begin_step(ctx_);
  for (int64_t pass_idx = 0; pass_idx < recipe_.grad_accum_steps; ++pass_idx) {
    const auto loss = accumulate(pass_idx);
    if (!loss) return loss.error();
    report.loss += *loss / static_cast<double>(recipe_.grad_accum_steps);
    report.num_images += batch_.num_images();
  }
  report.skipped = !optimizer_.end_step(ctx_, report.lr, state_.num_updates);
  report.grad_norm = optimizer_.grad_norm();
  report.step = ++state_.num_steps;
  if (!report.skipped) {
    ++state_.num_updates;
    state_.num_skipped_in_a_row = 0;
    state_.loss_sum += report.loss;
    ++state_.num_losses;
  } else if (++state_.num_skipped_in_a_row >= kMaxSkipped) {
    return make_error(ErrorCode::kInvalidArgument,
                      "gradients were not finite in {} steps in a row (step {}, loss {}); take a "
                      "lower lr or clip_grad and resume",
                      kMaxSkipped, report.step, report.loss);
  }
  return report;
}

Result<double> Trainer::accumulate(int64_t pass_idx) {
  auto next = data_.next(std::move(batch_));
  if (!next) return next.error();
  batch_ = *std::move(next);
  const int64_t n = batch_.num_images();
  const int64_t num_classes = model_.config().network.num_classes;
  if (const Status good = check_labels(batch_, num_classes); !good) return good.error();

  Rng mix_rng = draws(recipe_, kMixStream, state_.num_steps, pass_idx);
  Mix mix = draw_mix(recipe_, mix_rng);
  const io::Normalization normalization;
  mix.input.mean = normalization.mean;
  mix.input.std = normalization.std;
  Rng keep_rng = draws(recipe_, kKeepStream, state_.num_steps, pass_idx);
  const auto keep = draw_keep(model_.num_blocks(), n, recipe_.drop_path, keep_rng);
  const auto targets = soft_targets(batch_.labels, num_classes, recipe_.label_smoothing, mix.share);

  const ArenaScope scope(ctx_.arena);
  const Tensor pixels =
      copy_to_device(ctx_, batch_.pixels, {n, batch_.image_size, batch_.image_size, 3});
  const Tensor images = nn::activations(ctx_, pixels.shape());
  image_input(ctx_, images, pixels.view<const uint8_t, 4>(), mix.input);
  models::TrainableVision::Mode mode{true, {}};
  if (recipe_.drop_path > 0) mode.keep = upload(ctx_, keep, {model_.num_blocks(), n});
  const Tensor logits = model_.forward(ctx_, images, mode);
  const Tensor device_targets = upload(ctx_, targets, {n, num_classes});
  const Tensor losses = ctx_.arena.alloc(DType::kF32, {n});
  const auto scale = static_cast<float>(1.0 / static_cast<double>(n * recipe_.grad_accum_steps));
  cross_entropy(ctx_, losses.view<float, 1>(), logits, logits,
                device_targets.view<const float, 2>(), scale);
  model_.backward(ctx_, logits);
  const Tensor host_losses = copy_to_host(ctx_, losses);
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += double{host_losses.data<float>()[i]};
  return sum / static_cast<double>(n);
}

Result<Evaluation> Trainer::validate() {
  return evaluate(ctx_, model_, *validation_, io::Normalization());
}

Status Trainer::end_epoch(const StepReport& last) {
  EpochReport report;
  report.epoch = last.epoch;
  report.step = last.step;
  report.lr = last.lr;
  report.train_loss =
      state_.num_losses > 0 ? state_.loss_sum / static_cast<double>(state_.num_losses) : NAN;
  const bool due = options_.validate_every_epochs > 0 &&
                   (finished() || (last.epoch + 1) % options_.validate_every_epochs == 0);
  if (validation_ != nullptr && due) {
    const auto of_weights = validate();
    if (!of_weights) return of_weights.error();
    report.validation = *of_weights;
    state_.best_top1 = std::max(state_.best_top1, of_weights->top1);
    if (optimizer_.has_average()) {
      optimizer_.swap_average(ctx_);
      const auto of_average = validate();
      optimizer_.swap_average(ctx_);
      if (!of_average) return of_average.error();
      report.average_validation = *of_average;
      state_.best_top1 = std::max(state_.best_top1, of_average->top1);
    }
  }
  state_.loss_sum = 0;
  state_.num_losses = 0;
  if (options_.on_epoch) options_.on_epoch(report);
  return {};
}

Status Trainer::save() {
  since_save_ = Stopwatch();
  if (options_.directory.empty()) return {};
  const CheckpointInfo info{"", recipe_, model_.config().network.num_classes, state_};
  return write_checkpoint(ctx_, options_.directory, info, model_.parameters(), optimizer_);
}

}  // namespace comet::train
