// BatchSource: where a run's batches come from. What batch b of epoch e holds must be a function of
// (e, b) alone, so that a run can go on anywhere. Callers: trainer, evaluation. data/ImageLoader is
// one behind LoaderSource; tests make others.
#pragma once

#include "comet/train/data/image_loader.h"

namespace comet::train {

class BatchSource {
 public:
  virtual ~BatchSource() = default;
  [[nodiscard]] virtual int64_t num_batches() const = 0;  // of an epoch
  /// Begins with that batch.
  virtual void start(int64_t epoch, int64_t batch_idx) = 0;
  /// The next batch, after the last one of an epoch the first of the next one. The memory of
  /// `spent` is used again.
  virtual Result<ImageBatch> next(ImageBatch spent) = 0;
};

class LoaderSource final : public BatchSource {
 public:
  explicit LoaderSource(ImageLoader& loader) : loader_(loader) {}
  [[nodiscard]] int64_t num_batches() const override { return loader_.num_batches(); }
  void start(int64_t epoch, int64_t batch_idx) override { loader_.start(epoch, batch_idx); }
  Result<ImageBatch> next(ImageBatch spent) override { return loader_.next(std::move(spent)); }

 private:
  ImageLoader& loader_;
};

}  // namespace comet::train
