// What a training run leaves for people and scripts: log.jsonl, a line a step (every few) and a
// line an epoch, curve.svg and, where it is wanted, an event file for TensorBoard. A run that goes
// on keeps the lines up to where it goes on. Caller: vision_train.
#pragma once

#include <optional>
#include <span>

#include "comet/base/json.h"
#include "comet/io/file.h"
#include "comet/train/log/event_file.h"
#include "comet/train/loop/trainer.h"

namespace comet::cli {

class TrainLog {
 public:
  /// Lines of steps after `num_steps` are dropped from a file that is there; 0: all. `events`: with
  /// an event file.
  static Result<TrainLog> open(const std::string& directory, int64_t num_steps,
                               int64_t steps_per_line, bool events);

  void on_step(const train::StepReport& report);
  /// Writes the curve again, too.
  void on_epoch(const train::EpochReport& report);
  /// The first error of writing, if there was one.
  [[nodiscard]] const Status& status() const { return status_; }
  /// Of the steps between the last lines; validation and checkpoints are not counted.
  [[nodiscard]] double images_per_s() const { return images_per_s_; }
  /// The lines of epochs.
  [[nodiscard]] const Json& epochs() const { return epochs_; }

 private:
  TrainLog(io::OutputFile file, std::string directory, int64_t steps_per_line)
      : file_(std::move(file)), directory_(std::move(directory)), steps_per_line_(steps_per_line) {}
  void write(const OrderedJson& line);
  void write_events(int64_t step, std::span<const train::Scalar> scalars);

  io::OutputFile file_;
  std::optional<train::EventFile> events_;
  std::string directory_;
  int64_t steps_per_line_;
  Status status_;
  Json epochs_ = Json::array();
  int64_t num_images_ = 0;  // since the last line of a step, as the next two
  double seconds_ = 0;
  double data_wait_s_ = 0;
  double images_per_s_ = 0;
};

/// Loss and accuracy over epochs as one SVG file.
std::string train_curve(const Json& epochs);

}  // namespace comet::cli
