// What a training pass takes of the device's memory, so that a batch that did not fit is told with
// one that does. Callers: apps.
#pragma once

#include "comet/models/vision/training/trainable_vision.h"
#include "comet/train/recipe/recipe.h"

namespace comet::train {

struct PassMemory {
  int64_t fixed_bytes = 0;
  int64_t image_bytes = 0;  // for every image of the batch

  /// A batch that fits for sure into an arena that may grow to `free_bytes`, whose blocks double;
  /// 0: not one image does.
  [[nodiscard]] int64_t images_in(int64_t free_bytes) const;
};

/// Runs passes over a few black images: changes running statistics and gradients, so the model is
/// not for use until its state is read again.
PassMemory measure_pass(Context& ctx, const Recipe& recipe, models::TrainableVision& model);

/// The error of a run whose memory is out: with a batch that fits what the arena of `ctx` holds and
/// what is free.
Error batch_error(Context& ctx, const Recipe& recipe, models::TrainableVision& model);
/// Its text, for tests.
Error batch_error(const Recipe& recipe, int64_t free_bytes, int64_t num_fit);

}  // namespace comet::train
