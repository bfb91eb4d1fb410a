// A data source for tests: 32 × 32 images of stripes, whose direction and colour are the label,
// under noise. Batch b of epoch e is drawn from (e, b).
#pragma once

#include "comet/base/rng.h"
#include "comet/models/vision/training/trainable_vision.h"
#include "comet/train/loop/batch_source.h"

namespace comet::train::testing {

class StripesSource final : public BatchSource {
 public:
  static constexpr int64_t kNumClasses = 4;
  StripesSource(int64_t num_batches, int64_t batch_size, uint64_t seed)
      : num_batches_(num_batches), batch_size_(batch_size), seed_(seed) {}

  [[nodiscard]] int64_t num_batches() const override { return num_batches_; }
  void start(int64_t epoch, int64_t batch_idx) override {
    position_ = epoch * num_batches_ + batch_idx;
  }
  Result<ImageBatch> next(ImageBatch spent) override {
    constexpr int64_t kSize = 32;
    Rng rng(seed_, static_cast<uint64_t>(position_));
    spent.epoch = position_ / num_batches_;
    spent.batch_idx = position_++ % num_batches_;
    spent.image_size = kSize;
    spent.labels.clear();
    spent.pixels.clear();
    for (int64_t i = 0; i < batch_size_; ++i) {
      const auto label = static_cast<int32_t>(rng.next_below(kNumClasses));
      const auto phase = static_cast<int64_t>(rng.next_below(8));
      spent.labels.push_back(label);
      for (int64_t at = 0; at < kSize * kSize; ++at) {
        const int64_t along = label % 2 == 0 ? at / kSize : at % kSize;
        const bool light = (along + phase) / 4 % 2 == 0;
        for (int64_t c = 0; c < 3; ++c) {
          const bool tinted = light && (c == 0) == (label < 2);
          const auto noise = static_cast<int64_t>(rng.next_below(60));
          spent.pixels.push_back(static_cast<uint8_t>((tinted ? 190 : 40) + noise));
        }
      }
    }
    return spent;
  }

 private:
  int64_t num_batches_;
  int64_t batch_size_;
  uint64_t seed_;
  int64_t position_ = 0;
};

/// InceptionNeXt (or ConvNeXt) small enough for tests.
inline models::TrainableVisionConfig small_config(models::VisionFamily family) {
  models::TrainableVisionConfig config;
  const bool inception = family == models::VisionFamily::kInceptionNext;
  config.network.architecture = inception ? "inception_next" : "convnext";
  config.network.family = family;
  for (size_t i = 0; i < 4; ++i) {
    const int64_t channels = 8 + 4 * static_cast<int64_t>(i);
    config.network.stages[i] = {1, channels, 2 * channels, inception ? channels / 4 : 0};
  }
  config.network.band = inception ? 5 : 0;
  config.network.head_hidden = inception ? 40 : 0;
  config.network.num_classes = StripesSource::kNumClasses;
  return config;
}

}  // namespace comet::train::testing
