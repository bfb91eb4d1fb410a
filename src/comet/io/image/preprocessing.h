// From an image of any size to a classifier's input, as timm's evaluation transform does it: the
// short side resized to floor(size / crop_pct), the centre cut out, (x/255 − mean)/std. Callers:
// apps, the trainer's validation. Settings come from timm's `pretrained_cfg` in config.json.
#pragma once

#include <array>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>

#include "comet/io/image/resample.h"

namespace comet {
using Json = nlohmann::json;  // as in comet/base/json.h
}

namespace comet::io {

struct Normalization {
  std::array<float, 3> mean = {0.485F, 0.456F, 0.406F};  // ImageNet's
  std::array<float, 3> std = {0.229F, 0.224F, 0.225F};
};

enum class CropMode {
  kCenter,
  kSquash,  // both sides resized, proportions lost
};

struct Preprocessing {
  int64_t image_size = 224;  // both sides of what the classifier sees
  double crop_pct = 0.875;
  CropMode crop_mode = CropMode::kCenter;
  Filter filter = Filter::kBicubic;
  Normalization normalization;
};

/// Fields absent from config.json keep the defaults above. `source` opens every error.
Result<Preprocessing> parse_preprocessing(const Json& config, const std::string& source);

/// image_size × image_size pixels.
Image evaluation_crop(const Image& image, const Preprocessing& preprocessing);

/// NHWC values of pixels, as many as bytes.
void normalize(std::span<const uint8_t> rgb, const Normalization& normalization,
               std::span<float> values);

}  // namespace comet::io
