// TrainingPass: forward and backward over one batch, gradients added to the model's. What it reads
// lies at addresses that stay, so that a GPU replays it as one graph and takes the next batch's
// pixels in while it computes. Caller: Trainer.
#pragma once

#include <vector>

#include "comet/models/vision/training/trainable_vision.h"
#include "comet/ops/replay.h"
#include "comet/train/data/image_loader.h"
#include "comet/train/recipe/recipe.h"

namespace comet::train {

class TrainingPass {
 public:
  /// All outlive this.
  TrainingPass(Context& ctx, const Recipe& recipe, models::TrainableVision& model)
      : ctx_(ctx), recipe_(recipe), model_(model) {}

  /// Takes a batch in for the next launch(), behind what was launched before; all batches of a run
  /// have one size. An error when a label is not one of the network's.
  Status stage(const ImageBatch& batch);
  /// Of the staged batch. What is drawn (mixing, dropped branches) is a function of the seed and
  /// `position`, which counts the passes of the run.
  void launch(int64_t position);
  /// The mean over the images of the last launch(); waits for it.
  [[nodiscard]] double loss();

 private:
  void allocate(const ImageBatch& batch);
  void compute();

  Context& ctx_;
  const Recipe& recipe_;
  models::TrainableVision& model_;
  std::vector<int32_t> labels_;  // of the staged batch
  // [n, size, size, 3] in 8 bits and as the network's input; [n, classes]; [blocks, n]; [n].
  Tensor pixels_, images_, targets_, keep_, losses_;
  Replay replay_;
};

}  // namespace comet::train
