// ImageLoader: an ImageFolder as a stream of batches of 8-bit pixels, decoded and augmented by
// threads of its own ahead of the reader. Callers: the training loop, comet vision validate. What
// batch b of epoch e holds is a function of (files, settings, seed, e, b) alone, whatever the
// number of threads; so a run goes on anywhere with start(e, b).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "comet/io/dataset/image_folder.h"
#include "comet/train/augment/augment.h"

namespace comet::train {

struct ImageBatch {
  int64_t epoch = 0;
  int64_t batch_idx = 0;  // of the epoch
  int64_t image_size = 0;
  std::vector<uint8_t> pixels;  // [num_images, image_size, image_size, 3]
  std::vector<int32_t> labels;  // by image; −1: an unreadable file (evaluation only), pixels zero

  [[nodiscard]] int64_t num_images() const { return static_cast<int64_t>(labels.size()); }
};

struct LoaderSettings {
  int64_t batch_size = 128;
  uint64_t seed = 0;
  int num_threads = 1;
  int num_batches_ahead = 3;
  /// Training: drawn order, augmented, a last batch that is not full is left out, and an unreadable
  /// file gives its place to the next one of the folder. Without it: the folder's order, each image
  /// once, preprocessing.
  bool training = false;
  AugmentSettings augment;
  io::Preprocessing preprocessing;
};

class ImageLoader {
 public:
  /// Called once for each unreadable file after a start(), from a loader's thread, one at a time.
  using OnBroken = std::function<void(const std::string& path, const Error&)>;

  /// `folder` is copied. No thread runs before start().
  ImageLoader(const io::ImageFolder& folder, const LoaderSettings& settings, OnBroken on_broken);
  ImageLoader(const ImageLoader&) = delete;
  ImageLoader& operator=(const ImageLoader&) = delete;
  ~ImageLoader();

  [[nodiscard]] int64_t num_batches() const;  // of an epoch
  [[nodiscard]] int64_t num_images() const;   // of an epoch, in those batches

  /// Begins with that batch; what was read ahead is dropped.
  void start(int64_t epoch, int64_t batch_idx);
  /// The next batch, after the last one of an epoch the first of the next; waits for it. An error
  /// when no file can be read or memory is out; kInvalidArgument when an epoch has no batch. The
  /// memory of `spent`, a batch of earlier, is used again.
  Result<ImageBatch> next(ImageBatch spent = {});

  /// The folder's samples in the order of an epoch: a permutation where `training` is set.
  [[nodiscard]] std::vector<int64_t> epoch_order(int64_t epoch) const;

 private:
  class Workers;

  io::ImageFolder folder_;
  LoaderSettings settings_;
  OnBroken on_broken_;
  std::unique_ptr<Workers> workers_;
};

}  // namespace comet::train
