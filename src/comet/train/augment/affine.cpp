#include "comet/train/augment/affine.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace comet::train {
namespace {

double bilinear(double a, double b, double d) { return a + (b - a) * d; }

double bicubic(const std::array<double, 4>& v, double d) {
  const double p2 = v[2] - v[0];
  const double p3 = 2 * (v[0] - v[1]) + v[2] - v[3];
  const double p4 = v[1] - v[0] - v[2] + v[3];
  return v[1] + d * (p2 + d * (p3 + d * p4));
}

/// One place of the source, between pixels; those beyond the border repeat it.
class Sampler {
 public:
  Sampler(const io::Image& image, double x, double y)
      : image_(image),
        x_(static_cast<int64_t>(std::floor(x - 0.5))),
        y_(static_cast<int64_t>(std::floor(y - 0.5))),
        dx_(x - 0.5 - static_cast<double>(x_)),
        dy_(y - 0.5 - static_cast<double>(y_)) {
    for (int i = 0; i < 4; ++i) {
      columns_[i] = std::clamp(x_ - 1 + i, int64_t{0}, image.width - 1) * io::kImageColours;
      rows_[i] = image.row(std::clamp(y_ - 1 + i, int64_t{0}, image.height - 1));
    }
  }
  [[nodiscard]] double bilinear_at(int colour) const {
    const double upper =
        bilinear(rows_[1][columns_[1] + colour], rows_[1][columns_[2] + colour], dx_);
    const double lower =
        bilinear(rows_[2][columns_[1] + colour], rows_[2][columns_[2] + colour], dx_);
    return bilinear(upper, lower, dy_);
  }
  [[nodiscard]] double bicubic_at(int colour) const {
    std::array<double, 4> across{};
    for (int i = 0; i < 4; ++i) {
      const uint8_t* row = rows_[i] + colour;
      across[i] =
          bicubic({static_cast<double>(row[columns_[0]]), static_cast<double>(row[columns_[1]]),
                   static_cast<double>(row[columns_[2]]), static_cast<double>(row[columns_[3]])},
                  dx_);
    }
    return bicubic(across, dy_);
  }

 private:
  const io::Image& image_;
  int64_t x_;
  int64_t y_;
  double dx_;
  double dy_;
  std::array<int64_t, 4> columns_{};
  std::array<const uint8_t*, 4> rows_{};
};

uint8_t truncated(double value) { return static_cast<uint8_t>(std::clamp(value, 0.0, 255.0)); }

}  // namespace

io::Image transformed(const io::Image& image, const AffineMatrix& matrix, io::Filter filter,
                      const std::array<uint8_t, 3>& fill) {
  io::Image result{image.width, image.height, std::vector<uint8_t>(image.rgb.size())};
  const auto width = static_cast<double>(image.width);
  const auto height = static_cast<double>(image.height);
  uint8_t* to = result.rgb.data();
  for (int64_t row = 0; row < image.height; ++row) {
    for (int64_t column = 0; column < image.width; ++column, to += io::kImageColours) {
      const double px = static_cast<double>(column) + 0.5;
      const double py = static_cast<double>(row) + 0.5;
      const double x = matrix[0] * px + matrix[1] * py + matrix[2];
      const double y = matrix[3] * px + matrix[4] * py + matrix[5];
      if (!(x >= 0 && x < width && y >= 0 && y < height)) {
        std::copy(fill.begin(), fill.end(), to);
        continue;
      }
      const Sampler sampler(image, x, y);
      for (int c = 0; c < 3; ++c) {
        to[c] = truncated(filter == io::Filter::kBicubic ? sampler.bicubic_at(c)
                                                         : sampler.bilinear_at(c));
      }
    }
  }
  return result;
}

AffineMatrix rotation(double degrees, int64_t width, int64_t height) {
  const double angle = -degrees * std::numbers::pi / 180.0;
  const double cosine = std::cos(angle);
  const double sine = std::sin(angle);
  const double x = static_cast<double>(width) / 2.0;
  const double y = static_cast<double>(height) / 2.0;
  return {cosine, sine, x - cosine * x - sine * y, -sine, cosine, y + sine * x - cosine * y};
}

}  // namespace comet::train
