#include "comet/train/augment/augment.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace comet::train {
namespace {

constexpr int kMaxTries = 10;
constexpr double kErasedAreaLow = 0.02;
constexpr double kErasedAreaHigh = 1.0 / 3.0;
constexpr double kErasedRatioLow = 0.3;

double uniform(Rng& rng, double low, double high) {
  return low + (high - low) * rng.next_uniform();
}

/// Uniform in [0, last].
int64_t below_or_at(Rng& rng, int64_t last) {
  return static_cast<int64_t>(rng.next_below(static_cast<uint64_t>(last) + 1));
}

struct Sides {
  int64_t wide;
  int64_t narrow;
};

/// √(area · ratio) and √(area / ratio), the ratio uniform in its logarithm.
Sides random_sides(double area, double ratio_low, double ratio_high, Rng& rng) {
  const double ratio = std::exp(uniform(rng, std::log(ratio_low), std::log(ratio_high)));
  return {std::llrint(std::sqrt(area * ratio)), std::llrint(std::sqrt(area / ratio))};
}

/// The largest part in the middle whose proportions are allowed.
io::PixelBox central_part(int64_t width, int64_t height, const AugmentSettings& settings) {
  const double ratio = static_cast<double>(width) / static_cast<double>(height);
  int64_t w = width;
  int64_t h = height;
  if (ratio < settings.ratio_low) {
    h = std::llrint(static_cast<double>(width) / settings.ratio_low);
  } else if (ratio > settings.ratio_high) {
    w = std::llrint(static_cast<double>(height) * settings.ratio_high);
  }
  w = std::clamp<int64_t>(w, 1, width);
  h = std::clamp<int64_t>(h, 1, height);
  return {(width - w) / 2, (height - h) / 2, w, h};
}

}  // namespace

io::PixelBox random_part(int64_t width, int64_t height, const AugmentSettings& settings, Rng& rng) {
  const auto area = static_cast<double>(width * height);
  for (int attempt = 0; attempt < kMaxTries; ++attempt) {
    const double part = area * uniform(rng, settings.scale_low, settings.scale_high);
    const Sides sides = random_sides(part, settings.ratio_low, settings.ratio_high, rng);
    if (sides.wide < 1 || sides.narrow < 1 || sides.wide > width || sides.narrow > height) continue;
    const int64_t top = below_or_at(rng, height - sides.narrow);
    const int64_t left = below_or_at(rng, width - sides.wide);
    return {left, top, sides.wide, sides.narrow};
  }
  return central_part(width, height, settings);
}

void mirror(io::Image& image) {
  for (int64_t y = 0; y < image.height; ++y) {
    uint8_t* left = image.row(y);
    uint8_t* right = left + (image.width - 1) * io::kImageColours;
    for (; left < right; left += io::kImageColours, right -= io::kImageColours) {
      std::swap_ranges(left, left + io::kImageColours, right);
    }
  }
}

void random_erase(io::Image& image, const AugmentSettings& settings, Rng& rng) {
  if (rng.next_uniform() >= settings.erase_probability) return;
  const auto area = static_cast<double>(image.width * image.height);
  for (int attempt = 0; attempt < kMaxTries; ++attempt) {
    const double part = area * uniform(rng, kErasedAreaLow, kErasedAreaHigh);
    const auto [height, width] = random_sides(part, kErasedRatioLow, 1 / kErasedRatioLow, rng);
    if (width >= image.width || height >= image.height) continue;
    const int64_t top = below_or_at(rng, image.height - height);
    const int64_t left = below_or_at(rng, image.width - width);
    for (int64_t y = top; y < top + height; ++y) {
      uint8_t* pixel = image.row(y) + left * io::kImageColours;
      for (int64_t i = 0; i < width * io::kImageColours; ++i) {
        const size_t c = static_cast<size_t>(i) % 3;
        const float value =
            settings.normalization.mean[c] + settings.normalization.std[c] * rng.next_normal();
        pixel[i] = static_cast<uint8_t>(std::clamp(value * 255.0F + 0.5F, 0.0F, 255.0F));
      }
    }
    return;
  }
}

io::Image augment(const io::Image& image, const AugmentSettings& settings, Rng& rng) {
  const int64_t size = settings.image_size;
  const io::PixelBox part = random_part(image.width, image.height, settings, rng);
  const auto drawn = rng.next_uniform() < 0.5F ? io::Filter::kBilinear : io::Filter::kBicubic;
  io::Image result =
      io::resample(image, part, size, size, {0, 0, size, size}, settings.filter.value_or(drawn));
  if (rng.next_uniform() < settings.flip_probability) mirror(result);
  if (settings.rand_augment) rand_augment(result, *settings.rand_augment, rng);
  random_erase(result, settings, rng);
  return result;
}

}  // namespace comet::train
