#include "comet/train/data/image_loader.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <mutex>
#include <new>
#include <numeric>
#include <optional>
#include <set>
#include <thread>

namespace comet::train {
namespace {

/// Streams of Rng: orders of epochs, and images; an epoch has fewer than 2³² images.
uint64_t order_stream(int64_t epoch) { return (uint64_t{1} << 63) + static_cast<uint64_t>(epoch); }
uint64_t image_stream(int64_t epoch, int64_t sample_idx) {
  return (static_cast<uint64_t>(epoch) << 32) + static_cast<uint64_t>(sample_idx);
}

}  // namespace

/// Threads take image numbers in turn, as long as they lie less than num_batches_ahead before the
/// reader; each fills its place in the batch, and the last one of a batch wakes the reader.
class ImageLoader::Workers {
 public:
  Workers(const ImageLoader& loader, int64_t epoch, int64_t batch_idx)
      : loader_(loader), read_batch_(epoch * loader.num_batches() + batch_idx) {
    next_batch_ = read_batch_;
    for (int i = 0; i < loader.settings_.num_threads; ++i) {
      threads_.emplace_back([this] { work(); });
    }
  }
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;
  ~Workers() {
    {
      const std::scoped_lock lock(mutex_);
      stopping_ = true;
    }
    has_room_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  Result<ImageBatch> next(ImageBatch spent) {
    std::unique_lock lock(mutex_);
    spare_pixels_.push_back(std::move(spent.pixels));
    has_batch_.wait(
        lock, [&] { return failure_ || (!slots_.empty() && slots_.front()->num_missing == 0); });
    if (failure_) return *failure_;
    ImageBatch batch = std::move(slots_.front()->batch);
    slots_.erase(slots_.begin());
    ++read_batch_;
    has_room_.notify_all();
    return batch;
  }

 private:
  struct Slot {
    ImageBatch batch;
    std::vector<int64_t> sample_idxs;
    int64_t num_taken = 0;
    int64_t num_missing = 0;
  };
  struct Task {
    std::shared_ptr<Slot> slot;
    int64_t image_idx;
  };

  void work() {
    while (auto task = take()) {
      std::optional<Error> failure;
      try {
        failure = loader_.settings_.training ? fill_training(*task) : fill_evaluation(*task);
      } catch (const std::bad_alloc&) {
        failure = no_memory();
      } catch (const std::exception& e) {
        failure = make_error(ErrorCode::kIo, "loading images: {}", e.what());
      }
      const std::scoped_lock lock(mutex_);
      --task->slot->num_missing;
      if (failure && !failure_) failure_ = failure;
      if (failure_ || task->slot->num_missing == 0) has_batch_.notify_all();
    }
  }

  /// Nothing when the loader ends, or has failed.
  std::optional<Task> take() {
    std::unique_lock lock(mutex_);
    has_room_.wait(lock, [&] {
      return stopping_ || failure_ || has_untaken() ||
             next_batch_ < read_batch_ + loader_.settings_.num_batches_ahead;
    });
    if (stopping_ || failure_) return std::nullopt;
    if (!has_untaken()) {
      try {
        add_slot();
      } catch (const std::bad_alloc&) {
        failure_ = no_memory();
        has_batch_.notify_all();
        has_room_.notify_all();
        return std::nullopt;
      }
    }
    const std::shared_ptr<Slot>& slot = slots_.back();
    return Task{slot, slot->num_taken++};
  }
  [[nodiscard]] bool has_untaken() const {
    return !slots_.empty() && slots_.back()->num_taken < slots_.back()->batch.num_images();
  }

  void add_slot() {
    const LoaderSettings& settings = loader_.settings_;
    auto slot = std::make_shared<Slot>();
    ImageBatch& batch = slot->batch;
    if (!spare_pixels_.empty()) {
      batch.pixels = std::move(spare_pixels_.back());
      spare_pixels_.pop_back();
    }
    batch.epoch = next_batch_ / loader_.num_batches();
    batch.batch_idx = next_batch_ % loader_.num_batches();
    batch.image_size =
        settings.training ? settings.augment.image_size : settings.preprocessing.image_size;
    if (batch.epoch != order_epoch_) {
      order_ = loader_.epoch_order(batch.epoch);
      order_epoch_ = batch.epoch;
    }
    const int64_t begin = batch.batch_idx * settings.batch_size;
    const int64_t end = std::min(begin + settings.batch_size, static_cast<int64_t>(order_.size()));
    slot->sample_idxs.assign(order_.begin() + begin, order_.begin() + end);
    batch.labels.assign(slot->sample_idxs.size(), -1);
    batch.pixels.resize(slot->sample_idxs.size() * image_bytes(batch));
    slot->num_missing = batch.num_images();
    slots_.push_back(std::move(slot));
    ++next_batch_;
  }

  static Error no_memory() {
    return make_error(ErrorCode::kResourceExhausted,
                      "no memory left for batches of images; take smaller ones");
  }
  static size_t image_bytes(const ImageBatch& batch) {
    return static_cast<size_t>(batch.image_size * batch.image_size * io::kImageColours);
  }
  static void put(const Task& task, const io::Image& image, int32_t label) {
    ImageBatch& batch = task.slot->batch;
    std::memcpy(batch.pixels.data() + task.image_idx * image_bytes(batch), image.rgb.data(),
                image_bytes(batch));
    batch.labels[task.image_idx] = label;
  }

  std::optional<Error> fill_evaluation(const Task& task) {
    const io::ImageSample& sample = loader_.folder_.samples[task.slot->sample_idxs[task.image_idx]];
    const io::Preprocessing& preprocessing = loader_.settings_.preprocessing;
    if (const auto image = read(sample)) {
      put(task, io::evaluation_crop(*image, preprocessing), sample.label);
    } else {
      const int64_t size = preprocessing.image_size;
      put(task, {size, size, std::vector<uint8_t>(image_bytes(task.slot->batch))}, -1);
    }
    return std::nullopt;
  }
  std::optional<Error> fill_training(const Task& task) {
    const std::vector<io::ImageSample>& samples = loader_.folder_.samples;
    const int64_t wished = task.slot->sample_idxs[task.image_idx];
    for (size_t skipped = 0; skipped < samples.size(); ++skipped) {
      const io::ImageSample& sample = samples[(wished + skipped) % samples.size()];
      const auto image = read(sample);
      if (!image) continue;
      Rng rng(loader_.settings_.seed, image_stream(task.slot->batch.epoch, wished));
      put(task, augment(*image, loader_.settings_.augment, rng), sample.label);
      return std::nullopt;
    }
    return make_error(ErrorCode::kCorrupt, "{}: none of its {} images can be read",
                      loader_.folder_.root, samples.size());
  }
  std::optional<io::Image> read(const io::ImageSample& sample) {
    auto image = io::read_image(sample.path);
    if (image) return std::move(*image);
    const std::scoped_lock lock(broken_mutex_);
    if (broken_.insert(sample.path).second && loader_.on_broken_) {
      loader_.on_broken_(sample.path, image.error());
    }
    return std::nullopt;
  }

  const ImageLoader& loader_;
  std::mutex mutex_;  // of everything down to failure_
  std::condition_variable has_room_;
  std::condition_variable has_batch_;
  std::vector<std::shared_ptr<Slot>> slots_;  // read_batch_ to next_batch_; tasks are of the last
  int64_t read_batch_;  // counted from the first epoch's start, as next_batch_
  int64_t next_batch_ = 0;
  std::vector<std::vector<uint8_t>> spare_pixels_;
  std::vector<int64_t> order_;
  int64_t order_epoch_ = -1;
  bool stopping_ = false;
  std::optional<Error> failure_;
  std::mutex broken_mutex_;
  std::set<std::string> broken_;
  std::vector<std::thread> threads_;
};

ImageLoader::ImageLoader(const io::ImageFolder& folder, const LoaderSettings& settings,
                         OnBroken on_broken)
    : folder_(folder), settings_(settings), on_broken_(std::move(on_broken)) {
  COMET_CHECK(settings.batch_size > 0 && settings.num_threads > 0 && settings.num_batches_ahead > 0,
              "batches of {}, {} threads, {} batches ahead", settings.batch_size,
              settings.num_threads, settings.num_batches_ahead);
}

ImageLoader::~ImageLoader() = default;

int64_t ImageLoader::num_batches() const {
  const auto num_samples = static_cast<int64_t>(folder_.samples.size());
  if (settings_.training) return num_samples / settings_.batch_size;
  return (num_samples + settings_.batch_size - 1) / settings_.batch_size;
}

int64_t ImageLoader::num_images() const {
  return std::min(num_batches() * settings_.batch_size,
                  static_cast<int64_t>(folder_.samples.size()));
}

std::vector<int64_t> ImageLoader::epoch_order(int64_t epoch) const {
  std::vector<int64_t> order(folder_.samples.size());
  std::iota(order.begin(), order.end(), 0);
  if (!settings_.training) return order;
  Rng rng(settings_.seed, order_stream(epoch));
  for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[rng.next_below(i)]);
  return order;
}

void ImageLoader::start(int64_t epoch, int64_t batch_idx) {
  workers_.reset();
  if (num_batches() > 0) workers_ = std::make_unique<Workers>(*this, epoch, batch_idx);
}

Result<ImageBatch> ImageLoader::next(ImageBatch spent) {
  if (num_batches() == 0) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: its {} images do not fill a batch of {}; take smaller batches",
                      folder_.root, folder_.samples.size(), settings_.batch_size);
  }
  COMET_CHECK(workers_ != nullptr, "ImageLoader::next() before start()");
  return workers_->next(std::move(spent));
}

}  // namespace comet::train
