// Trainer: the loop over steps and epochs with checkpoints. One thread; everything it draws is a
// function of (seed, position), so a run that goes on from a checkpoint computes the same bits as
// an unbroken one. Callers: apps, studies.
#pragma once

#include <functional>
#include <optional>

#include "comet/base/clock.h"
#include "comet/train/loop/batch_source.h"
#include "comet/train/loop/evaluation.h"
#include "comet/train/loop/run_state.h"
#include "comet/train/loop/training_pass.h"

namespace comet::train {

struct StepReport {
  int64_t step = 0;  // from 1: steps done
  int64_t epoch = 0;
  double loss = 0;  // mean over the step's images
  double lr = 0;
  double grad_norm = 0;
  int64_t num_images = 0;
  double seconds = 0;
  double data_wait_s = 0;  // of them for batches; a GPU computes meanwhile
  bool skipped = false;    // gradients were not finite
};

struct EpochReport {
  int64_t epoch = 0;  // the one that ended
  int64_t step = 0;
  double train_loss = 0;
  double lr = 0;
  std::optional<Evaluation> validation;          // of the weights
  std::optional<Evaluation> average_validation;  // of their moving average
};

struct TrainerOptions {
  std::string directory;               // of the run
  int64_t checkpoint_every_steps = 0;  // 0: at the ends of epochs only
  double checkpoint_every_s = 600;     // and when so long has passed; 0: never by time
  int64_t validate_every_epochs = 1;   // and after the last one; 0: never
  int64_t stop_after_steps = 0;        // of the whole run; 0: the recipe's epochs
  std::function<void(const StepReport&)> on_step;
  std::function<void(const EpochReport&)> on_epoch;
  std::function<bool()> stop_asked;  // a checkpoint is written, then run() returns
};

class Trainer {
 public:
  /// `validation` may be nullptr. All outlive this.
  Trainer(Context& ctx, const Recipe& recipe, models::TrainableVision& model, BatchSource& data,
          BatchSource* validation, TrainerOptions options);

  /// Weights drawn by the recipe's seed; or those of a folder with model.safetensors.
  void begin();
  Status begin_from(const std::string& weights_directory);
  /// Where a checkpoint stands. The recipe must be the checkpoint's: see recipe_difference().
  Status resume(const CheckpointInfo& checkpoint);

  /// To the end, or until a stop. Errors: no data, no space, kMaxSkipped steps in a row whose
  /// gradients were not finite. The last checkpoint stays what it is.
  Status run();

  [[nodiscard]] const RunState& state() const { return state_; }
  [[nodiscard]] bool finished() const { return state_.num_steps >= num_steps(); }
  [[nodiscard]] int64_t steps_per_epoch() const;
  [[nodiscard]] int64_t num_steps() const;  // of the whole run
  [[nodiscard]] Optimizer& optimizer() { return optimizer_; }

 private:
  static constexpr int64_t kMaxSkipped = 25;

  Result<StepReport> step();
  Result<double> accumulate(int64_t pass_idx);
  /// Reads ahead while the pass before computes; an error waits until its batch is needed.
  void stage_next();
  /// From the batch that comes next in the run.
  void start_data();
  Status end_epoch(const StepReport& last);
  Status save();
  Result<Evaluation> validate();

  Context& ctx_;
  const Recipe& recipe_;
  models::TrainableVision& model_;
  BatchSource& data_;
  BatchSource* validation_;
  TrainerOptions options_;
  Optimizer optimizer_;
  TrainingPass pass_;
  RunState state_;
  ImageBatch batch_;              // the last one that was staged
  std::optional<Status> staged_;  // how staging it went
  double data_wait_s_ = 0;        // of the present step
  Stopwatch since_save_;
};

}  // namespace comet::train
