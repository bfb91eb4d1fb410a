// An image classifier opened from its folder with what belongs to it: preprocessing and the names
// of its classes. Shared by the vision subcommands.
#pragma once

#include <map>
#include <mutex>

#include "apps/comet/command.h"
#include "comet/io/dataset/class_labels.h"
#include "comet/io/image/preprocessing.h"
#include "comet/models/vision/vision_model.h"
#include "comet/train/data/image_loader.h"

namespace comet::cli {

struct VisionFolder {
  std::unique_ptr<models::VisionModel> model;
  io::Preprocessing preprocessing;
  io::ClassLabels labels;
};

/// Flags that change what the classifier sees; 0: as its config.json says.
struct VisionFlags {
  std::string model;
  int64_t image_size = 0;
  double crop_pct = 0;
  int64_t batch = 16;
  int num_workers = 0;  // threads that decode; 0: by the device
};

void add_vision_flags(CLI::App& command, VisionFlags& flags);

/// What the classifier sees: as its config.json says, changed by the flags.
Result<io::Preprocessing> preprocessing_of(const io::Checkpoint& checkpoint,
                                           const VisionFlags& flags);
/// A checkpoint of another architecture is told apart by its tensors.
Result<VisionFolder> open_vision_folder(Context& ctx, const VisionFlags& flags);

/// How images reach the classifier.
train::LoaderSettings evaluation_settings(const Context& ctx,
                                          const io::Preprocessing& preprocessing,
                                          const VisionFlags& flags);
/// [images, size, size, 3] FP32 on the host.
Tensor normalized_images(Context& ctx, const train::ImageBatch& batch,
                         const io::Normalization& normalization);

/// Class probabilities of a batch, [images, classes], on the host.
std::vector<std::vector<float>> class_probabilities(Context& ctx, const VisionFolder& folder,
                                                    const train::ImageBatch& batch);

/// The k most probable classes, best first; of equal ones the first.
std::vector<int64_t> top_classes(const std::vector<float>& probabilities, int64_t k);

/// Unreadable files, from the loader's threads to the log and to the result.
class SkippedFiles {
 public:
  void add(const std::string& path, const Error& error);
  /// [{file, error}], by name.
  [[nodiscard]] Json json() const;
  /// For train::ImageLoader; this must outlive it.
  train::ImageLoader::OnBroken callback() {
    return [this](const std::string& path, const Error& error) { add(path, error); };
  }

 private:
  mutable std::mutex mutex_;
  std::map<std::string, std::string> errors_;
};

}  // namespace comet::cli
