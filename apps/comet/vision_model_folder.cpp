#include "apps/comet/vision_model_folder.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "comet/base/log.h"
#include "comet/models/vision/weights/vision_tensors.h"
#include "comet/ops/op_table.h"

namespace comet::cli {
namespace {

constexpr int64_t kMaxImageSize = 4096;

}  // namespace

void add_vision_flags(CLI::App& command, VisionFlags& flags) {
  command.add_option("MODEL", flags.model, "Folder of an image classifier")->required();
  command
      .add_option("--image-size", flags.image_size,
                  "Side of what the classifier sees (default: its config.json's)")
      ->check(CLI::Range(models::kMinImageSize, kMaxImageSize));
  command
      .add_option("--crop-pct", flags.crop_pct,
                  "Share of the short side that is seen (default: its config.json's)")
      ->check(CLI::Range(0.01, 1.0));
  command.add_option("--batch", flags.batch, "Images at a time")
      ->check(CLI::Range(int64_t{1}, int64_t{65536}))
      ->capture_default_str();
  command
      .add_option("--workers", flags.num_workers,
                  "Threads that decode images (default: one for every four cores, all with a GPU)")
      ->check(CLI::Range(0, 1024));
}

Result<io::Preprocessing> preprocessing_of(const io::Checkpoint& checkpoint,
                                           const VisionFlags& flags) {
  auto preprocessing = io::parse_preprocessing(checkpoint.config(), checkpoint.config_path());
  if (!preprocessing) return preprocessing.error();
  if (flags.image_size > 0) preprocessing->image_size = flags.image_size;
  if (flags.crop_pct > 0) preprocessing->crop_pct = flags.crop_pct;
  if (preprocessing->image_size < models::kMinImageSize) {
    return make_error(ErrorCode::kUnsupported,
                      "{}: pretrained_cfg.input_size is {} pixels; the classifier needs {} or more",
                      checkpoint.config_path(), preprocessing->image_size, models::kMinImageSize);
  }
  return preprocessing;
}

Result<VisionFolder> open_vision_folder(Context& ctx, const VisionFlags& flags) {
  const auto checkpoint = io::Checkpoint::open(flags.model);
  if (!checkpoint) return checkpoint.error();
  const io::Checkpoint& opened = checkpoint.value();
  if (const Status fits = models::check_vision_checkpoint(opened); !fits) return fits.error();
  const auto preprocessing = preprocessing_of(opened, flags);
  if (!preprocessing) return preprocessing.error();
  auto model = models::load_vision_model(ctx, opened);
  if (!model) return model.error();
  auto labels =
      io::parse_class_labels(opened.config(), (*model)->config().num_classes, opened.config_path());
  if (!labels) return labels.error();
  return VisionFolder{*std::move(model), *preprocessing, *std::move(labels)};
}

train::LoaderSettings evaluation_settings(const Context& ctx,
                                          const io::Preprocessing& preprocessing,
                                          const VisionFlags& flags) {
  train::LoaderSettings settings;
  settings.batch_size = flags.batch;
  settings.preprocessing = preprocessing;
  const int num_cores = default_num_threads();
  const int num_workers = ctx.cuda != nullptr ? num_cores : (num_cores + 3) / 4;
  settings.num_threads = flags.num_workers > 0 ? flags.num_workers : num_workers;
  return settings;
}

Tensor normalized_images(Context& ctx, const train::ImageBatch& batch,
                         const io::Normalization& normalization) {
  const int64_t size = batch.image_size;
  Tensor images = allocate_tensor(host_allocator(), DType::kF32,
                                  {batch.num_images(), size, size, io::kImageColours});
  const int64_t image_values = size * size * io::kImageColours;
  ctx.pool.parallel_for(batch.num_images(), [&](int64_t i, int) {
    const auto offset = static_cast<size_t>(i * image_values);
    const auto count = static_cast<size_t>(image_values);
    io::normalize(std::span(batch.pixels).subspan(offset, count), normalization,
                  std::span(images.data<float>() + offset, count));
  });
  return images;
}

std::vector<std::vector<float>> class_probabilities(Context& ctx, const VisionFolder& folder,
                                                    const train::ImageBatch& batch) {
  const Tensor images = normalized_images(ctx, batch, folder.preprocessing.normalization);
  const ArenaScope scope(ctx.arena);
  const Tensor logits = copy_to_host(ctx, folder.model->forward(ctx, copy_to_device(ctx, images)));
  std::vector<std::vector<float>> all;
  for (int64_t i = 0; i < batch.num_images(); ++i) {
    const float* row = logits.data<float>() + i * logits.size(1);
    std::vector<float> probabilities(row, row + logits.size(1));
    const float largest = *std::ranges::max_element(probabilities);
    double sum = 0;
    for (float& p : probabilities) {
      p = std::exp(p - largest);
      sum += p;
    }
    for (float& p : probabilities) p = static_cast<float>(p / sum);
    all.push_back(std::move(probabilities));
  }
  return all;
}

std::vector<int64_t> top_classes(const std::vector<float>& probabilities, int64_t k) {
  std::vector<int64_t> order(probabilities.size());
  std::iota(order.begin(), order.end(), 0);
  const auto end = order.begin() + std::min<int64_t>(k, static_cast<int64_t>(order.size()));
  std::partial_sort(order.begin(), end, order.end(), [&](int64_t a, int64_t b) {
    return probabilities[a] != probabilities[b] ? probabilities[a] > probabilities[b] : a < b;
  });
  order.erase(end, order.end());
  return order;
}

void SkippedFiles::add(const std::string& path, const Error& error) {
  log_warning("skipped: {}", error.message);
  const std::scoped_lock lock(mutex_);
  errors_[path] = error.message;
}

Json SkippedFiles::json() const {
  const std::scoped_lock lock(mutex_);
  Json list = Json::array();
  for (const auto& [file, error] : errors_) list.push_back({{"file", file}, {"error", error}});
  return list;
}

}  // namespace comet::cli
