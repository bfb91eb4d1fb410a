#include "comet/train/augment/colour.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace comet::train {
namespace {

using Table = std::array<uint8_t, 256>;
using Histogram = std::array<int64_t, 256>;

uint8_t clipped(int value) { return static_cast<uint8_t>(std::clamp(value, 0, 255)); }

template <typename ByteOf>
Table table_of(ByteOf byte_of) {
  Table table{};
  for (int i = 0; i < 256; ++i) table[i] = clipped(byte_of(i));
  return table;
}

void map_bytes(io::Image& image, const Table& table) {
  for (uint8_t& byte : image.rgb) byte = table[byte];
}

/// A table for each colour, from its histogram.
template <typename TableOf>
void map_colours(io::Image& image, TableOf table_of_histogram) {
  std::array<Histogram, 3> histograms{};
  for (size_t i = 0; i < image.rgb.size(); ++i) ++histograms[i % 3][image.rgb[i]];
  std::array<Table, 3> tables;
  for (int c = 0; c < 3; ++c) tables[c] = table_of_histogram(histograms[c]);
  for (size_t i = 0; i < image.rgb.size(); ++i) image.rgb[i] = tables[i % 3][image.rgb[i]];
}

int first_used(const Histogram& histogram) {
  int i = 0;
  while (i < 255 && histogram[i] == 0) ++i;
  return i;
}

int last_used(const Histogram& histogram) {
  int i = 255;
  while (i > 0 && histogram[i] == 0) --i;
  return i;
}

/// ITU-R 601-2 luma with 16 bits.
uint8_t luma(const uint8_t* rgb) {
  return static_cast<uint8_t>((rgb[0] * 19595 + rgb[1] * 38470 + rgb[2] * 7471 + 0x8000) >> 16);
}

/// from + factor·(to − from), towards zero, in bytes.
uint8_t blend(int from, int to, float factor) {
  const float value = static_cast<float>(from) + factor * static_cast<float>(to - from);
  if (value <= 0.0F) return 0;
  return value >= 255.0F ? uint8_t{255} : static_cast<uint8_t>(value);
}

/// 3 × 3 means with weight 5 in the middle, of 13; the border is as it was.
std::vector<uint8_t> smoothed(const io::Image& image) {
  std::vector<uint8_t> result = image.rgb;
  constexpr float kSide = 1.0F / 13.0F;
  constexpr float kMiddle = 5.0F / 13.0F;
  for (int64_t y = 1; y + 1 < image.height; ++y) {
    for (int64_t i = 3; i < (image.width - 1) * 3; ++i) {
      float sum = 0.5F;
      for (int64_t dy = 1; dy >= -1; --dy) {
        const uint8_t* row = image.row(y + dy) + i;
        const float middle = dy == 0 ? kMiddle : kSide;
        sum += static_cast<float>(row[-3]) * kSide + static_cast<float>(row[0]) * middle +
               static_cast<float>(row[3]) * kSide;
      }
      result[y * image.width * 3 + i] = clipped(static_cast<int>(sum));
    }
  }
  return result;
}

}  // namespace

void auto_contrast(io::Image& image) {
  map_colours(image, [](const Histogram& histogram) {
    const int low = first_used(histogram);
    const int high = last_used(histogram);
    if (high <= low) return table_of([](int i) { return i; });
    const double scale = 255.0 / (high - low);
    const double offset = -low * scale;
    return table_of([&](int i) { return static_cast<int>(i * scale + offset); });
  });
}

void equalize(io::Image& image) {
  const int64_t num_pixels = image.width * image.height;
  map_colours(image, [&](const Histogram& histogram) {
    const int64_t step = (num_pixels - histogram[last_used(histogram)]) / 255;
    if (step == 0) return table_of([](int i) { return i; });
    int64_t count = step / 2;
    return table_of([&](int i) {
      const auto value = static_cast<int>(count / step);
      count += histogram[i];
      return value;
    });
  });
}

void invert(io::Image& image) {
  map_bytes(image, table_of([](int i) { return 255 - i; }));
}

void posterize(io::Image& image, int bits) {
  map_bytes(image, table_of([&](int i) { return i & ~((1 << (8 - bits)) - 1); }));
}

void solarize(io::Image& image, int threshold) {
  map_bytes(image, table_of([&](int i) { return i < threshold ? i : 255 - i; }));
}

void solarize_add(io::Image& image, int added) {
  map_bytes(image, table_of([&](int i) { return i < 128 ? std::min(255, i + added) : i; }));
}

void enhance_colour(io::Image& image, float factor) {
  for (size_t i = 0; i < image.rgb.size(); i += 3) {
    uint8_t* pixel = image.rgb.data() + i;
    const int grey = luma(pixel);
    for (int c = 0; c < 3; ++c) pixel[c] = blend(grey, pixel[c], factor);
  }
}

void enhance_brightness(io::Image& image, float factor) {
  map_bytes(image, table_of([&](int i) { return blend(0, i, factor); }));
}

void enhance_contrast(io::Image& image, float factor) {
  int64_t sum = 0;
  for (size_t i = 0; i < image.rgb.size(); i += 3) sum += luma(image.rgb.data() + i);
  const size_t num_pixels = image.rgb.size() / 3;
  const double mean = static_cast<double>(sum) / static_cast<double>(num_pixels);
  const auto grey = static_cast<int>(std::floor(mean + 0.5));
  map_bytes(image, table_of([&](int i) { return blend(grey, i, factor); }));
}

void enhance_sharpness(io::Image& image, float factor) {
  const std::vector<uint8_t> smooth = smoothed(image);
  for (size_t i = 0; i < smooth.size(); ++i) {
    image.rgb[i] = blend(smooth[i], image.rgb[i], factor);
  }
}

}  // namespace comet::train
