#include "comet/train/loop/trainer.h"

#include <algorithm>
#include <cmath>

#include "comet/train/recipe/schedule.h"

namespace comet::train {

Trainer::Trainer(Context& ctx, const Recipe& recipe, models::TrainableVision& model,
                 BatchSource& data, BatchSource* validation, TrainerOptions options)
    : ctx_(ctx),
      recipe_(recipe),
      model_(model),
      data_(data),
      validation_(validation),
      options_(std::move(options)),
      optimizer_(ctx, recipe, model.parameters()),
      pass_(ctx, recipe, model) {}

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
  if (checkpoint.num_batches > 0 && checkpoint.num_batches != data_.num_batches()) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: the run's data has {} batches of {} images an epoch, this one {}; give "
                      "it the data it began with",
                      checkpoint.directory, checkpoint.num_batches, recipe_.batch_size,
                      data_.num_batches());
  }
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
  start_data();
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
      start_data();  // batches too few for a step are left out
    }
  }
  return {};
}

Result<StepReport> Trainer::step() {
  const Stopwatch watch;
  StepReport report;
  report.epoch = state_.num_steps / steps_per_epoch();
  report.lr = learning_rate(recipe_, state_.num_steps, steps_per_epoch());
  optimizer_.begin_step(ctx_, report.lr, state_.num_updates);
  data_wait_s_ = 0;
  for (int64_t pass_idx = 0; pass_idx < recipe_.grad_accum_steps; ++pass_idx) {
    const auto loss = accumulate(pass_idx);
    if (!loss) return loss.error();
    report.loss += *loss / static_cast<double>(recipe_.grad_accum_steps);
    report.num_images += recipe_.batch_size;
  }
  report.data_wait_s = data_wait_s_;
  report.skipped = !optimizer_.end_step(ctx_, state_.num_updates);
  report.grad_norm = optimizer_.grad_norm();
  report.seconds = watch.seconds();
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
  if (!staged_) stage_next();
  if (!*staged_) return staged_->error();
  pass_.launch(state_.num_steps * recipe_.grad_accum_steps + pass_idx);
  stage_next();
  return pass_.loss();
}

void Trainer::stage_next() {
  const Stopwatch waiting;
  auto next = data_.next(std::move(batch_));
  data_wait_s_ += waiting.seconds();
  if (next) {
    batch_ = *std::move(next);
    staged_ = pass_.stage(batch_);
  } else {
    staged_ = next.error();
  }
}

void Trainer::start_data() {
  staged_.reset();
  data_.start(state_.num_steps / steps_per_epoch(),
              state_.num_steps % steps_per_epoch() * recipe_.grad_accum_steps);
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
  const CheckpointInfo info{.directory = "",
                            .recipe = recipe_,
                            .num_classes = model_.config().network.num_classes,
                            .num_batches = data_.num_batches(),
                            .state = state_};
  return write_checkpoint(ctx_, options_.directory, info, model_.parameters(), optimizer_);
}

}  // namespace comet::train
