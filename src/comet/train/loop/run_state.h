// RunState: where a run stands, and checkpoints of it: DIR/checkpoints/step-<n>/ with model/
// (timm's names), state/ (optimizer and averages) and run.json, written under another name and
// renamed when it is whole, so that a run killed at any moment goes on from the last one. Callers:
// trainer, apps.
#pragma once

#include "comet/train/loop/optimizer.h"

namespace comet::train {

struct RunState {
  int64_t num_steps = 0;    // optimizer steps tried, skipped ones, too: the position in the data
  int64_t num_updates = 0;  // those that changed the weights
  int64_t num_skipped_in_a_row = 0;
  double best_top1 = 0;
  // Of the epoch that is on.
  double loss_sum = 0;
  int64_t num_losses = 0;
};

/// What a checkpoint says beside its tensors.
struct CheckpointInfo {
  std::string directory;
  Recipe recipe;
  int64_t num_classes = 0;
  int64_t num_batches = 0;  // of an epoch; 0: the checkpoint does not say
  RunState state;
};

/// Writes a checkpoint of `state` and removes all but the last two.
Status write_checkpoint(Context& ctx, const std::string& run_directory, const CheckpointInfo& info,
                        const nn::ParameterSet& set, const Optimizer& optimizer);

/// The newest whole checkpoint of a run's folder; an error that says so when there is none.
Result<CheckpointInfo> find_checkpoint(const std::string& run_directory);

/// Its weights and optimizer state.
Status read_checkpoint(Context& ctx, const CheckpointInfo& info, nn::ParameterSet& set,
                       Optimizer& optimizer);

/// directory/model.safetensors under timm's names, num_batches_tracked included, so that PyTorch
/// loads it strictly; F32 or rounded to BF16. The folder is made; a file of that name is replaced.
Status write_weights(const std::string& directory, const nn::NamedTensors& tensors,
                     int64_t num_updates, DType dtype);

/// Sets parameters and buffers from directory/model.safetensors. A file of another network is an
/// error that lists the tensors that are missing, left over or of another shape.
Status read_weights(Context& ctx, const std::string& directory, nn::ParameterSet& set);

}  // namespace comet::train
