// Small classifiers on disk, drawn by name, and what quantizes them: shared by quantize_vision's
// tests on the CPU and on a GPU.
#pragma once

#include <gtest/gtest.h>

#include <cmath>

#include "comet/io/safetensors_writer.h"
#include "comet/models/vision/weights/vision_tensors.h"
#include "comet/quant/vision/quantize_vision.h"
#include "support/drawn_vision.h"
#include "support/temporary_folder.h"

namespace comet::quant {

/// Inputs of 8 to 128 channels: below, at and off the groups of 128.
inline models::VisionConfig small_config(models::VisionFamily family) {
  const bool inception = family == models::VisionFamily::kInceptionNext;
  models::VisionConfig config;
  config.architecture = inception ? "inception_next" : "convnext";
  config.family = family;
  config.num_classes = 5;
  config.band = inception ? 5 : 0;
  config.head_hidden = inception ? 36 : 0;
  for (size_t i = 0; i < config.stages.size(); ++i) {
    const int64_t channels = 8 * static_cast<int64_t>(i + 1);
    config.stages[i] = {1, channels, i == 0 ? 128 : 3 * channels, inception ? channels / 4 : 0};
  }
  return config;
}

inline void write_original(const testing::TemporaryFolder& folder,
                           const models::VisionConfig& config, std::string_view poisoned = "") {
  folder.write("config.json", fmt::format(R"({{"architecture": "{}", "num_classes": {}}})",
                                          config.architecture, config.num_classes));
  auto writer = io::SafetensorsWriter::create(folder.path()).value();
  for (const models::VisionTensor& tensor : models::vision_tensors(config)) {
    Tensor values = testing::draw_parameter(tensor.name, tensor.shape);
    if (tensor.name == poisoned) values.data<float>()[0] = NAN;
    ASSERT_TRUE(writer.append(tensor.name, values));
  }
  ASSERT_TRUE(writer.finish());
}

inline Tensor drawn_images(const char* name, int64_t count) {
  return testing::draw(name, {count, 64, 64, 3}, 0.0, 1.0);
}

inline VisionQuantizeRequest request_of(std::string_view format, const std::string& out) {
  return {.options = vision_options(format).value(),
          .out_dir = out,
          .force = false,
          .calibration = {drawn_images("calibration 0", 3), drawn_images("calibration 1", 2)},
          .held_back = {drawn_images("held back", 2)}};
}

/// rms(a − b) / rms(b − mean of b's row).
inline double relative_rms(const Tensor& a, const Tensor& b) {
  double error = 0;
  double spread = 0;
  const int64_t classes = b.size(1);
  for (int64_t i = 0; i < b.size(0); ++i) {
    const float* row = b.data<float>() + i * classes;
    double mean = 0;
    for (int64_t c = 0; c < classes; ++c) mean += row[c] / static_cast<double>(classes);
    for (int64_t c = 0; c < classes; ++c) {
      error += std::pow(double{a.data<float>()[i * classes + c]} - row[c], 2);
      spread += std::pow(row[c] - mean, 2);
    }
  }
  return std::sqrt(error / spread);
}

}  // namespace comet::quant
