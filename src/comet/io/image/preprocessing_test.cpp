// Resizing and the evaluation transform against Pillow and timm (tools/make_image_goldens.py).
#include "comet/io/image/preprocessing.h"

#include <gtest/gtest.h>

#include <cstring>

#include "comet/base/json.h"
#include "comet/io/safetensors.h"

namespace comet::io {
namespace {

const std::string kFolder = COMET_SOURCE_DIR "/tests/data/vision/images/";

std::vector<std::string> parts_of(std::string_view name, char separator) {
  std::vector<std::string> parts(1);
  for (const char c : name) {
    if (c == separator) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

Filter filter_of(const std::string& name) {
  return name == "bilinear" ? Filter::kBilinear : Filter::kBicubic;
}

Image image_of(const std::string& name) {
  if (name == "turned") return oriented(read_image(kFolder + "photo.jpg").value(), 8);
  return read_image(kFolder + name + ".jpg").value();
}

bool equal(const Image& image, const Tensor& golden) {
  return golden.shape() == Shape{image.height, image.width, 3} &&
         std::memcmp(golden.raw(), image.rgb.data(), image.rgb.size()) == 0;
}

TEST(Preprocessing, EvaluationCropIsThatOfTimm) {
  auto goldens = SafetensorsFile::open(kFolder + "resized.safetensors");
  ASSERT_TRUE(goldens) << goldens.error().message;
  int num_cases = 0;
  for (const std::string& name : goldens->names()) {
    if (!name.starts_with("eval.")) continue;
    SCOPED_TRACE(name);
    ++num_cases;
    const auto parts = parts_of(name, '.');  // eval.<image>.<size>.<0>.<95>.<filter>
    Preprocessing preprocessing;
    preprocessing.image_size = std::stoll(parts[2]);
    preprocessing.crop_pct = std::stod(parts[3] + "." + parts[4]);
    preprocessing.filter = filter_of(parts[5]);
    EXPECT_TRUE(
        equal(evaluation_crop(image_of(parts[1]), preprocessing), goldens->tensor(name).value()));
  }
  EXPECT_EQ(num_cases, 12);
}

TEST(Preprocessing, ResizingIsThatOfPillow) {
  auto goldens = SafetensorsFile::open(kFolder + "resized.safetensors");
  ASSERT_TRUE(goldens) << goldens.error().message;
  const Image photo = image_of("photo");
  int num_cases = 0;
  for (const std::string& name : goldens->names()) {
    if (!name.starts_with("resize.")) continue;
    SCOPED_TRACE(name);
    ++num_cases;
    const auto parts = parts_of(name, '.');
    const Image whole =
        resize(photo, std::stoll(parts[1]), std::stoll(parts[2]), filter_of(parts[3]));
    EXPECT_TRUE(equal(whole, goldens->tensor(name).value()));
    // A window of the result, and a box of the image, are parts of the whole.
    const PixelBox window{3, 2, 11, 5};
    const Image part = resample(photo, {0, 0, photo.width, photo.height}, whole.width, whole.height,
                                window, filter_of(parts[3]));
    EXPECT_EQ(part.rgb, crop(whole, window).rgb);
    const PixelBox box{20, 31, 60, 40};
    EXPECT_EQ(resample(photo, box, 33, 40, {0, 0, 33, 40}, filter_of(parts[3])).rgb,
              resize(crop(photo, box), 33, 40, filter_of(parts[3])).rgb);
  }
  EXPECT_EQ(num_cases, 4);
}

TEST(Preprocessing, NormalizedValuesAreThoseOfTimm) {
  auto goldens = SafetensorsFile::open(kFolder + "resized.safetensors");
  ASSERT_TRUE(goldens) << goldens.error().message;
  const Tensor golden = goldens->tensor("normalized").value();
  Preprocessing preprocessing;
  preprocessing.image_size = 48;
  preprocessing.crop_pct = 1.0;
  const Image image = evaluation_crop(image_of("photo"), preprocessing);
  std::vector<float> values(image.rgb.size());
  normalize(image.rgb, preprocessing.normalization, values);
  ASSERT_EQ(golden.num_elements(), static_cast<int64_t>(values.size()));
  for (size_t i = 0; i < values.size(); ++i) {
    ASSERT_NEAR(values[i], golden.data<float>()[i], 1e-6) << i;
  }
}

TEST(Preprocessing, AThinImageCostsNoMoreThanItsWindow) {
  Image thin{1, 60000, std::vector<uint8_t>(180000)};
  for (size_t i = 0; i < thin.rgb.size(); ++i) thin.rgb[i] = static_cast<uint8_t>(i / 3 % 251);
  const Image seen = evaluation_crop(thin, {});  // of 256 × 15,360,000
  EXPECT_EQ(seen.width, 224);
  EXPECT_EQ(seen.height, 224);
  EXPECT_NEAR(seen.rgb[0], 29999 % 251, 2);  // the middle
}

TEST(Preprocessing, CropPadsWithBlack) {
  const Image image{2, 1, {1, 2, 3, 4, 5, 6}};
  EXPECT_EQ(crop(image, {-1, 0, 3, 2}).rgb,
            (std::vector<uint8_t>{0, 0, 0, 1, 2, 3, 4, 5, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(crop(image, {5, 0, 1, 1}).rgb, (std::vector<uint8_t>{0, 0, 0}));
}

Result<Preprocessing> parsed(const char* text) {
  return parse_preprocessing(parse_json(text, "c.json").value(), "c.json");
}

TEST(Preprocessing, SettingsComeFromTimmsConfig) {
  auto read = parsed(R"({"pretrained_cfg": {"input_size": [3, 96, 96], "crop_pct": 0.95,
      "interpolation": "bilinear", "crop_mode": "squash", "mean": [0.5, 0.4, 0.3],
      "std": [0.2, 0.3, 0.4]}})");
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->image_size, 96);
  EXPECT_EQ(read->crop_pct, 0.95);
  EXPECT_EQ(read->filter, Filter::kBilinear);
  EXPECT_EQ(read->crop_mode, CropMode::kSquash);
  EXPECT_EQ(read->normalization.mean[2], 0.3F);
  EXPECT_EQ(read->normalization.std[1], 0.3F);
  EXPECT_EQ(parsed("{}")->image_size, 224);
}

TEST(Preprocessing, BrokenSettingsAreNamed) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"pretrained_cfg": 3})", "c.json: pretrained_cfg is 3; expected an object"},
      {R"({"pretrained_cfg": {"crop_pct": 0}})", "crop_pct"},
      {R"({"pretrained_cfg": {"interpolation": "lanczos"}})", "interpolation"},
      {R"({"pretrained_cfg": {"crop_mode": "border"}})", "crop_mode"},
      {R"({"pretrained_cfg": {"mean": [1, 2]}})", "pretrained_cfg.mean"},
      {R"({"pretrained_cfg": {"std": [1, 1, 0]}})", "pretrained_cfg.std"},
      {R"({"pretrained_cfg": {"input_size": [3, 224, 160]}})", "input_size"},
      {R"({"pretrained_cfg": {"input_size": [3, 9999999, 9999999]}})", "input_size"},
  };
  for (const auto& [text, expected] : cases) {
    auto read = parsed(text);
    ASSERT_FALSE(read) << text;
    EXPECT_NE(read.error().message.find(expected), std::string::npos) << read.error().message;
  }
}

}  // namespace
}  // namespace comet::io
