// Batches are a function of position and seed, whatever the threads; broken files are named.
#include "comet/train/data/image_loader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "comet/io/file.h"
#include "support/temporary_folder.h"

namespace comet::train {
namespace {

using testing::TemporaryFolder;

const std::string kImages = COMET_SOURCE_DIR "/tests/data/vision/images/";

/// Two classes of eight and three images, all different.
void write_images(const TemporaryFolder& folder) {
  for (const char* name : {"rgb_420.jpg", "rgb_422.jpg", "cmyk.jpg", "grey.jpg", "palette.png",
                           "alpha.png", "bits.png", "photo.jpg"}) {
    folder.write(std::string("a/") + name, io::read_file(kImages + name, 1 << 20).value());
  }
  for (const char* name : {"rgb_16.png", "interlaced.png", "tall.jpg"}) {
    folder.write(std::string("b/") + name, io::read_file(kImages + name, 1 << 20).value());
  }
}

LoaderSettings training_settings(int num_threads) {
  LoaderSettings settings;
  settings.batch_size = 4;
  settings.seed = 5;
  settings.num_threads = num_threads;
  settings.training = true;
  settings.augment.image_size = 24;
  settings.augment.rand_augment = RandAugment{};
  settings.augment.erase_probability = 0.25;
  return settings;
}

std::vector<ImageBatch> batches_from(ImageLoader& loader, int64_t epoch, int64_t batch_idx,
                                     int count) {
  loader.start(epoch, batch_idx);
  std::vector<ImageBatch> batches;
  for (int i = 0; i < count; ++i) batches.push_back(loader.next().value());
  return batches;
}

TEST(ImageLoader, BatchesAreAFunctionOfPositionAndSeed) {
  const TemporaryFolder folder;
  write_images(folder);
  const auto data = io::open_image_folder(folder.path(), nullptr).value();
  ImageLoader one(data, training_settings(1), nullptr);
  ImageLoader many(data, training_settings(5), nullptr);
  EXPECT_EQ(one.num_batches(), 2);
  EXPECT_EQ(one.num_images(), 8);
  const auto whole = batches_from(one, 0, 0, 8);
  const auto same = batches_from(many, 0, 0, 8);
  const auto later = batches_from(many, 2, 1, 3);
  for (size_t i = 0; i < whole.size(); ++i) {
    EXPECT_EQ(whole[i].epoch, static_cast<int64_t>(i / 2));
    EXPECT_EQ(whole[i].batch_idx, static_cast<int64_t>(i % 2));
    EXPECT_EQ(whole[i].pixels.size(), size_t{4 * 24 * 24 * 3});
    EXPECT_EQ(whole[i].pixels, same[i].pixels);
    EXPECT_EQ(whole[i].labels, same[i].labels);
  }
  for (size_t i = 0; i < later.size(); ++i) EXPECT_EQ(later[i].pixels, whole[5 + i].pixels);
  EXPECT_NE(whole[0].pixels, whole[2].pixels);
  EXPECT_NE(one.epoch_order(0), one.epoch_order(1));
  LoaderSettings other = training_settings(1);
  other.seed = 6;
  EXPECT_NE(ImageLoader(data, other, nullptr).epoch_order(0), one.epoch_order(0));
}

TEST(ImageLoader, AnEpochShowsEachImageOnce) {
  const TemporaryFolder folder;
  write_images(folder);
  const auto data = io::open_image_folder(folder.path(), nullptr).value();
  const ImageLoader loader(data, training_settings(1), nullptr);
  const auto order = loader.epoch_order(3);
  EXPECT_EQ(std::set<int64_t>(order.begin(), order.end()).size(), data.samples.size());
}

TEST(ImageLoader, EvaluationKeepsTheOrderAndMarksBrokenFiles) {
  const TemporaryFolder folder;
  write_images(folder);
  const std::string photo = io::read_file(kImages + "photo.jpg", 1 << 20).value();
  folder.write("a/broken.jpg", photo.substr(0, photo.size() / 2));
  const auto data = io::open_image_folder(folder.path(), nullptr).value();
  LoaderSettings settings;
  settings.batch_size = 5;
  settings.num_threads = 3;
  settings.preprocessing.image_size = 32;
  std::vector<std::string> broken;
  ImageLoader loader(data, settings, [&](const std::string&, const Error& error) {
    broken.push_back(error.message);
  });
  EXPECT_EQ(loader.num_batches(), 3);
  EXPECT_EQ(loader.num_images(), 12);
  loader.start(0, 0);
  ImageBatch batch;
  std::vector<int32_t> labels;
  for (int64_t i = 0; i < 3; ++i) {
    batch = loader.next(std::move(batch)).value();
    for (int64_t k = 0; k < batch.num_images(); ++k) {
      const io::ImageSample& sample = data.samples[i * 5 + k];
      labels.push_back(batch.labels[k]);
      const auto begin = batch.pixels.begin() + k * 32 * 32 * 3;
      const std::vector<uint8_t> pixels(begin, begin + 32 * 32 * 3);
      const auto image = io::read_image(sample.path);
      const auto expected = image ? io::evaluation_crop(image.value(), settings.preprocessing).rgb
                                  : std::vector<uint8_t>(pixels.size());
      EXPECT_EQ(pixels, expected) << sample.path;
    }
  }
  EXPECT_EQ(labels, (std::vector<int32_t>{0, 0, -1, 0, 0, 0, 0, 0, 0, 1, 1, 1}));
  ASSERT_EQ(broken.size(), 1U);
  EXPECT_NE(broken[0].find("a/broken.jpg: the JPEG file is truncated"), std::string::npos);
}

TEST(ImageLoader, TrainingGoesOnWithTheNextFile) {
  const TemporaryFolder folder;
  write_images(folder);
  folder.write("a/broken.jpg", "\xFF\xD8\xFF");
  folder.write("a/broken2.jpg", "");
  const auto data = io::open_image_folder(folder.path(), nullptr).value();
  int num_broken = 0;
  ImageLoader loader(data, training_settings(2),
                     [&](const std::string&, const Error&) { ++num_broken; });
  ImageLoader alone(data, training_settings(1), nullptr);
  const auto batches = batches_from(loader, 0, 0, 30);
  const auto same = batches_from(alone, 0, 0, 30);
  EXPECT_EQ(num_broken, 2);
  for (size_t i = 0; i < batches.size(); ++i) {
    EXPECT_EQ(batches[i].pixels, same[i].pixels);
    EXPECT_GE(std::ranges::min(batches[i].labels), 0);
  }
}

TEST(ImageLoader, WhatCannotBeDoneIsAnError) {
  const TemporaryFolder folder;
  folder.write("a/1.jpg", "");
  folder.write("b/1.jpg", "GIF");
  const auto data = io::open_image_folder(folder.path(), nullptr).value();
  LoaderSettings settings = training_settings(2);
  ImageLoader small(data, settings, nullptr);
  small.start(0, 0);
  const auto too_few = small.next();
  ASSERT_FALSE(too_few);
  EXPECT_EQ(too_few.error().message,
            folder.path() + ": its 2 images do not fill a batch of 4; take smaller batches");
  settings.batch_size = 1;
  ImageLoader broken(data, settings, nullptr);
  broken.start(0, 0);
  const auto none = broken.next();
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().message, folder.path() + ": none of its 2 images can be read");
}

TEST(ImageLoader, ABatchWithoutMemoryIsAnError) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers end a program that asks for so much";
#endif
  const TemporaryFolder folder;
  write_images(folder);
  const auto data = io::open_image_folder(folder.path(), nullptr).value();
  LoaderSettings settings = training_settings(3);
  settings.augment.image_size = int64_t{1} << 24;  // 3 PB a batch
  ImageLoader loader(data, settings, nullptr);
  loader.start(0, 0);
  const auto batch = loader.next();
  ASSERT_FALSE(batch.ok());
  EXPECT_EQ(batch.error().code, ErrorCode::kResourceExhausted);
}

}  // namespace
}  // namespace comet::train
