// Accuracy of a network in training on a data source, batch norms by their running moments.
// Callers: trainer, apps.
#pragma once

#include "comet/io/image/preprocessing.h"
#include "comet/models/vision/training/trainable_vision.h"
#include "comet/train/loop/batch_source.h"

namespace comet::train {

struct Evaluation {
  int64_t num_images = 0;  // those of unreadable files are left out
  double loss = 0;         // mean cross entropy of the labels
  double top1 = 0;         // shares
  double top5 = 0;
};

/// The first epoch of `data`.
Result<Evaluation> evaluate(Context& ctx, models::TrainableVision& model, BatchSource& data,
                            const io::Normalization& normalization);

}  // namespace comet::train
