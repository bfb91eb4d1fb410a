// One 8-bit product for tests: random codes and scales on host and device, results by definition.
// Callers: *_cuda_test.cpp of this folder.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "comet/formats/w8a8/cuda/gemm.h"
#include "comet/tensor/dtype.h"
#include "comet/tensor/float8.h"
#include "support/gpu.h"

namespace comet::formats::w8a8 {

struct GemmShape {
  int32_t rows = 1;
  int32_t n = 1;
  int32_t k = 1;
  bool is_e4m3 = false;
};

inline int64_t padded_to(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

/// Codes [rows, k] with zeros up to the stride: every s8, the extremes too, or every finite E4M3.
inline std::vector<uint8_t> random_codes(int64_t rows, int64_t k, int64_t stride, bool is_e4m3,
                                         uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<uint8_t> codes(static_cast<size_t>(rows * stride), 0);
  for (int64_t row = 0; row < rows; ++row) {
    uint64_t bits = 0;
    for (int64_t i = 0; i < k; ++i) {
      bits = i % 8 == 0 ? random() : bits >> 8;
      auto code = static_cast<uint8_t>(bits);
      if (is_e4m3 && (code & 0x7F) == 0x7F) code ^= 1;
      codes[static_cast<size_t>(row * stride + i)] = code;
    }
  }
  return codes;
}

inline std::vector<float> random_floats(int64_t count, float low, float high, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<float> between(low, high);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = between(random);
  return values;
}

class GemmCase {
 public:
  static constexpr int32_t kScaleStride = 2;
  static constexpr int64_t kGuard = 3;  // columns behind n that nobody may write

  explicit GemmCase(const GemmShape& shape)
      : shape_(shape),
        x_stride_(padded_to(shape.k, 128)),
        w_stride_(padded_to(shape.k, 16)),
        x_(random_codes(shape.rows, shape.k, x_stride_, shape.is_e4m3, 1)),
        w_(random_codes(shape.n, shape.k, w_stride_, shape.is_e4m3, 2)),
        x_scale_(random_floats(int64_t{shape.rows} * kScaleStride, 0.001F, 0.1F, 3)),
        w_scale_(random_floats(shape.n, 0.001F, 0.1F, 4)),
        bias_(random_floats(shape.n, -50.0F, 50.0F, 5)),
        device_x_(x_),
        device_w_(w_),
        device_x_scale_(x_scale_),
        device_w_scale_(w_scale_),
        device_bias_(bias_) {}

  [[nodiscard]] const GemmShape& shape() const { return shape_; }
  [[nodiscard]] int64_t out_stride() const { return shape_.n + kGuard; }

  /// Into `out` [rows, out_stride()].
  [[nodiscard]] GemmArgs args(void* out, bool is_bf16, bool has_bias) const {
    GemmArgs args;
    args.x = device_x_.get();
    args.w = device_w_.get();
    args.x_scale = device_x_scale_.get() + 1;
    args.w_scale = device_w_scale_.get();
    args.bias = has_bias ? device_bias_.get() : nullptr;
    args.out = out;
    args.x_stride = x_stride_;
    args.w_stride = w_stride_;
    args.out_stride = out_stride();
    args.x_scale_stride = kScaleStride;
    args.rows = shape_.rows;
    args.n = shape_.n;
    args.k = shape_.k;
    args.is_e4m3 = shape_.is_e4m3;
    args.is_bf16_out = is_bf16;
    return args;
  }

  /// Σ w·x of one output; exact for s8.
  [[nodiscard]] double sum(int64_t row, int64_t channel) const {
    const uint8_t* x = x_.data() + row * x_stride_;
    const uint8_t* w = w_.data() + channel * w_stride_;
    if (!shape_.is_e4m3) {
      int32_t total = 0;
      for (int64_t i = 0; i < shape_.k; ++i) {
        total += int32_t{static_cast<int8_t>(x[i])} * int32_t{static_cast<int8_t>(w[i])};
      }
      return total;
    }
    double total = 0;
    for (int64_t i = 0; i < shape_.k; ++i) {
      total += double{to_float(Float8E4M3{x[i]})} * double{to_float(Float8E4M3{w[i]})};
    }
    return total;
  }

  /// docs/formats.md §1, from the sum on.
  [[nodiscard]] float result(double sum, int64_t row, int64_t channel, bool has_bias) const {
    const float scale = x_scale_[static_cast<size_t>(row * kScaleStride + 1)];
    const auto column = static_cast<size_t>(channel);
    const float y = w_scale_[column] * (scale * static_cast<float>(sum));
    return has_bias ? y + bias_[column] : y;
  }

 private:
  GemmShape shape_;
  int64_t x_stride_;
  int64_t w_stride_;
  std::vector<uint8_t> x_;
  std::vector<uint8_t> w_;
  std::vector<float> x_scale_;
  std::vector<float> w_scale_;
  std::vector<float> bias_;
  testing::DeviceArray<uint8_t> device_x_;
  testing::DeviceArray<uint8_t> device_w_;
  testing::DeviceArray<float> device_x_scale_;
  testing::DeviceArray<float> device_w_scale_;
  testing::DeviceArray<float> device_bias_;
};

}  // namespace comet::formats::w8a8
