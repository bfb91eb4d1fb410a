#include "comet/io/image/resample.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace comet::io {
namespace {

constexpr int kWeightBits = 22;  // 32 less 8 of a pixel and 2 of what weights sum above one

double filter_radius(Filter filter) { return filter == Filter::kBicubic ? 2.0 : 1.0; }

double filter_weight(Filter filter, double x) {
  x = std::abs(x);
  if (filter == Filter::kBilinear) return x < 1.0 ? 1.0 - x : 0.0;
  constexpr double kA = -0.5;
  if (x < 1.0) return ((kA + 2.0) * x - (kA + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * kA;
  return 0.0;
}

/// The weights of output positions [first, first + count): each reads inputs from starts[i] on.
struct Taps {
  std::vector<int64_t> starts;
  std::vector<int32_t> lengths;
  std::vector<int32_t> weights;  // `stride` a position
  int64_t stride = 0;

  [[nodiscard]] const int32_t* of(int64_t i) const { return weights.data() + i * stride; }
  [[nodiscard]] int64_t begin() const { return starts.front(); }
  [[nodiscard]] int64_t end() const { return starts.back() + lengths.back(); }
};

int32_t fixed_point(double weight) {
  const double scaled = weight * (1 << kWeightBits);
  return static_cast<int32_t>(scaled < 0 ? scaled - 0.5 : scaled + 0.5);
}

Taps make_taps(int64_t in_size, int64_t out_size, int64_t first, int64_t count, Filter filter) {
  const double scale = static_cast<double>(in_size) / static_cast<double>(out_size);
  const double stretch = std::max(scale, 1.0);
  const double radius = filter_radius(filter) * stretch;
  Taps taps;
  taps.stride = static_cast<int64_t>(std::ceil(radius)) * 2 + 1;
  taps.weights.resize(static_cast<size_t>(count * taps.stride));
  std::vector<double> weights(static_cast<size_t>(taps.stride));
  for (int64_t i = 0; i < count; ++i) {
    const double center = (static_cast<double>(first + i) + 0.5) * scale;
    const auto begin = static_cast<int64_t>(std::floor(std::max(center - radius + 0.5, 0.0)));
    const auto end = std::min(static_cast<int64_t>(std::floor(center + radius + 0.5)), in_size);
    double sum = 0;
    for (int64_t k = begin; k < end; ++k) {
      const double x = (static_cast<double>(k) - center + 0.5) * (1.0 / stretch);
      weights[k - begin] = filter_weight(filter, x);
      sum += weights[k - begin];
    }
    for (int64_t k = 0; k < end - begin; ++k) {
      const double weight = sum != 0.0 ? weights[k] / sum : weights[k];
      taps.weights[i * taps.stride + k] = fixed_point(weight);
    }
    taps.starts.push_back(begin);
    taps.lengths.push_back(static_cast<int32_t>(end - begin));
  }
  return taps;
}

uint8_t to_byte(int32_t sum) {
  return static_cast<uint8_t>(std::clamp(sum >> kWeightBits, 0, 255));
}

constexpr int32_t kHalf = 1 << (kWeightBits - 1);

/// A row of pixels with fewer or more columns.
void resample_row(const uint8_t* from, const Taps& taps, uint8_t* to) {
  const auto count = static_cast<int64_t>(taps.starts.size());
  for (int64_t x = 0; x < count; ++x, to += kImageColours) {
    const uint8_t* pixel = from + taps.starts[x] * kImageColours;
    const int32_t* weights = taps.of(x);
    int32_t red = kHalf;
    int32_t green = kHalf;
    int32_t blue = kHalf;
    for (int32_t k = 0; k < taps.lengths[x]; ++k, pixel += kImageColours) {
      red += pixel[0] * weights[k];
      green += pixel[1] * weights[k];
      blue += pixel[2] * weights[k];
    }
    to[0] = to_byte(red);
    to[1] = to_byte(green);
    to[2] = to_byte(blue);
  }
}

/// One output row from `num_rows` rows of `size` bytes; `sums` is scratch of that size.
void combine_rows(const uint8_t* rows, const int32_t* weights, int32_t num_rows, int64_t size,
                  int32_t* sums, uint8_t* to) {
  std::fill_n(sums, size, kHalf);
  for (int32_t k = 0; k < num_rows; ++k) {
    const uint8_t* row = rows + k * size;
    const int32_t weight = weights[k];
    for (int64_t i = 0; i < size; ++i) sums[i] += row[i] * weight;
  }
  for (int64_t i = 0; i < size; ++i) to[i] = to_byte(sums[i]);
}

void check_inside(const PixelBox& box, int64_t width, int64_t height) {
  COMET_CHECK(box.left >= 0 && box.top >= 0 && box.width > 0 && box.height > 0 &&
                  box.width <= width - box.left && box.height <= height - box.top,
              "a box of {} x {} at ({}, {}) does not lie in {} x {} pixels", box.width, box.height,
              box.left, box.top, width, height);
}

}  // namespace

Image resample(const Image& image, const PixelBox& box, int64_t width, int64_t height,
               const PixelBox& window, Filter filter) {
  check_inside(box, image.width, image.height);
  check_inside(window, width, height);
  const Taps down = make_taps(box.height, height, window.top, window.height, filter);
  const int64_t first_row = down.begin();
  const int64_t num_rows = down.end() - first_row;
  const int64_t row_bytes = window.width * kImageColours;

  std::vector<uint8_t> narrowed(static_cast<size_t>(num_rows * row_bytes));
  const bool same_width = width == box.width;
  Taps across;
  if (!same_width) across = make_taps(box.width, width, window.left, window.width, filter);
  for (int64_t y = 0; y < num_rows; ++y) {
    const uint8_t* from = image.row(box.top + first_row + y) + box.left * kImageColours;
    uint8_t* to = narrowed.data() + y * row_bytes;
    if (same_width) {
      std::memcpy(to, from + window.left * kImageColours, static_cast<size_t>(row_bytes));
    } else {
      resample_row(from, across, to);
    }
  }

  Image result{window.width, window.height, {}};
  if (height == box.height) {
    // Every tap of the middle has weight one: the rows themselves.
    const int64_t skipped = window.top - first_row;
    result.rgb.assign(narrowed.begin() + skipped * row_bytes,
                      narrowed.begin() + (skipped + window.height) * row_bytes);
    return result;
  }
  result.rgb.resize(static_cast<size_t>(window.height * row_bytes));
  std::vector<int32_t> sums(static_cast<size_t>(row_bytes));
  for (int64_t y = 0; y < window.height; ++y) {
    combine_rows(narrowed.data() + (down.starts[y] - first_row) * row_bytes, down.of(y),
                 down.lengths[y], row_bytes, sums.data(), result.row(y));
  }
  return result;
}

Image resize(const Image& image, int64_t width, int64_t height, Filter filter) {
  return resample(image, {0, 0, image.width, image.height}, width, height, {0, 0, width, height},
                  filter);
}

Image crop(const Image& image, const PixelBox& box) {
  Image result{box.width, box.height, {}};
  result.rgb.resize(static_cast<size_t>(box.width * box.height * kImageColours));
  const int64_t begin = std::max<int64_t>(box.left, 0);
  const int64_t end = std::min(box.left + box.width, image.width);
  if (end <= begin) return result;
  for (int64_t y = std::max<int64_t>(box.top, 0); y < std::min(box.top + box.height, image.height);
       ++y) {
    std::memcpy(result.row(y - box.top) + (begin - box.left) * kImageColours,
                image.row(y) + begin * kImageColours,
                static_cast<size_t>((end - begin) * kImageColours));
  }
  return result;
}

}  // namespace comet::io
