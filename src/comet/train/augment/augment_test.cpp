// RandAugment's operations against timm's (tools/make_image_goldens.py), and what random parts
// must hold.
#include "comet/train/augment/augment.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "comet/io/safetensors.h"

namespace comet::train {
namespace {

const std::string kGoldens = COMET_SOURCE_DIR "/tests/data/vision/images/augmented.safetensors";

io::Image image_of(const Tensor& tensor) {
  const uint8_t* bytes = tensor.data<uint8_t>();
  return {tensor.size(1), tensor.size(0), {bytes, bytes + tensor.num_elements()}};
}

int op_of(std::string_view name) {
  for (int i = 0; i < kNumRandAugmentOps; ++i) {
    if (rand_augment_op_name(i) == name) return i;
  }
  return -1;
}

io::Image drawn_image(int64_t width, int64_t height) {
  io::Image image{width, height, std::vector<uint8_t>(static_cast<size_t>(width * height * 3))};
  Rng rng(7);
  for (uint8_t& byte : image.rgb) byte = static_cast<uint8_t>(rng.next_bits());
  return image;
}

TEST(RandAugment, OperationsAreThoseOfTimm) {
  const auto goldens = io::SafetensorsFile::open(kGoldens);
  ASSERT_TRUE(goldens) << goldens.error().message;
  const io::SafetensorsFile& file = goldens.value();
  const io::Image image = image_of(file.tensor("image").value());
  int num_cases = 0;
  for (const std::string& name : file.names()) {
    if (!name.starts_with("op.")) continue;
    SCOPED_TRACE(name);
    ++num_cases;
    const size_t dot = name.find('.', 3);  // op.<name>.<inc>.<magnitude>.<negative>.<bicubic>
    const auto digit = [&](size_t i) { return name[dot + 1 + 2 * i] - '0'; };
    RandAugment settings;
    settings.increasing = digit(0) == 1;
    io::Image result = image;
    apply_rand_augment_op(result, op_of(name.substr(3, dot - 3)), digit(1), digit(2) == 1,
                          digit(3) == 1, settings);
    const io::Image golden = image_of(file.tensor(name).value());
    ASSERT_EQ(golden.rgb.size(), result.rgb.size());
    for (size_t i = 0; i < golden.rgb.size(); ++i) ASSERT_EQ(golden.rgb[i], result.rgb[i]) << i;
  }
  EXPECT_EQ(num_cases, 45);
}

TEST(RandAugment, TextsAreThoseOfTimm) {
  const auto read = parse_rand_augment("rand-m9-mstd0.5-inc1");
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read.value().magnitude, 9);
  EXPECT_EQ(read.value().magnitude_std, 0.5);
  EXPECT_TRUE(read.value().increasing);
  EXPECT_EQ(read.value().num_layers, 2);
  EXPECT_EQ(parse_rand_augment("rand-n3-p1").value().num_layers, 3);
  for (const char* broken : {"", "augmix-m3", "rand-m11", "rand-m", "rand-mstd", "rand-n1.5",
                             "rand-w0", "rand-m9x", "rand--"}) {
    EXPECT_FALSE(parse_rand_augment(broken)) << broken;
  }
}

TEST(Augment, IsAFunctionOfImageAndSeed) {
  const io::Image image = drawn_image(50, 40);
  AugmentSettings settings;
  settings.image_size = 32;
  settings.rand_augment = parse_rand_augment("rand-m9-mstd0.5-inc1").value();
  settings.erase_probability = 0.5;
  int num_same = 0;
  for (uint64_t i = 0; i < 20; ++i) {
    Rng first(3, i);
    Rng again(3, i);
    Rng other(4, i);
    const io::Image one = augment(image, settings, first);
    EXPECT_EQ(one.width, 32);
    EXPECT_EQ(one.height, 32);
    EXPECT_EQ(one.rgb, augment(image, settings, again).rgb);
    num_same += one.rgb == augment(image, settings, other).rgb ? 1 : 0;
  }
  EXPECT_EQ(num_same, 0);
}

TEST(Augment, PartsHaveTheAreaAndTheProportionsAskedFor) {
  AugmentSettings settings;
  settings.scale_low = 0.2;
  settings.scale_high = 0.5;
  Rng rng(1);
  double smallest = 1;
  double largest = 0;
  for (int i = 0; i < 2000; ++i) {
    const io::PixelBox part = random_part(300, 400, settings, rng);
    ASSERT_GE(part.left, 0);
    ASSERT_GE(part.top, 0);
    ASSERT_LE(part.left + part.width, 300);
    ASSERT_LE(part.top + part.height, 400);
    const double share = static_cast<double>(part.width * part.height) / (300.0 * 400.0);
    const double ratio = static_cast<double>(part.width) / static_cast<double>(part.height);
    smallest = std::min(smallest, share);
    largest = std::max(largest, share);
    ASSERT_GT(ratio, 0.74);
    ASSERT_LT(ratio, 1.35);
  }
  EXPECT_NEAR(smallest, 0.2, 0.01);
  EXPECT_NEAR(largest, 0.5, 0.01);
}

TEST(Augment, AThinImageGivesItsMiddle) {
  Rng rng(1);
  AugmentSettings settings;
  settings.scale_low = 1;
  const io::PixelBox part = random_part(10, 1000, settings, rng);
  EXPECT_EQ(part.width, 10);
  EXPECT_EQ(part.height, 13);
  EXPECT_EQ(part.top, 493);
  const io::PixelBox pixel = random_part(1, 1, settings, rng);
  EXPECT_EQ(pixel.width * pixel.height, 1);
}

TEST(Augment, MirroringTwiceChangesNothing) {
  const io::Image image = drawn_image(5, 3);
  io::Image twice = image;
  mirror(twice);
  EXPECT_EQ(twice.rgb[0], image.rgb[12]);
  EXPECT_NE(twice.rgb, image.rgb);
  mirror(twice);
  EXPECT_EQ(twice.rgb, image.rgb);
}

TEST(Augment, ErasingChangesABoxOfTheAreaAskedFor) {
  const io::Image black{64, 48, std::vector<uint8_t>(64 * 48 * 3)};
  AugmentSettings settings;
  settings.erase_probability = 0.25;
  int num_erased = 0;
  for (uint64_t i = 0; i < 400; ++i) {
    Rng rng(9, i);
    io::Image image = black;
    random_erase(image, settings, rng);
    int64_t changed = 0;
    for (size_t p = 0; p < image.rgb.size(); p += 3) {
      changed += (image.rgb[p] | image.rgb[p + 1] | image.rgb[p + 2]) != 0 ? 1 : 0;
    }
    if (changed == 0) continue;
    ++num_erased;
    const double share = static_cast<double>(changed) / (64.0 * 48.0);
    EXPECT_GT(share, 0.015);
    EXPECT_LT(share, 0.345);
  }
  EXPECT_NEAR(num_erased, 100, 30);
}

}  // namespace
}  // namespace comet::train
