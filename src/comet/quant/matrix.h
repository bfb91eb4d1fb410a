// Matrix: a row-major FP32 matrix that owns its values. What quantization methods compute with:
// one linear's weight [rows, channels], or rows of activations [tokens, channels].
#pragma once

#include <cstdint>
#include <vector>

#include "comet/tensor/view.h"

namespace comet::quant {

struct Matrix {
  int64_t rows = 0;
  int64_t cols = 0;
  std::vector<float> values;

  Matrix() = default;
  /// Zeros.
  Matrix(int64_t num_rows, int64_t num_cols)
      : rows(num_rows), cols(num_cols), values(static_cast<size_t>(num_rows * num_cols)) {}

  float* row(int64_t i) { return values.data() + i * cols; }
  [[nodiscard]] const float* row(int64_t i) const { return values.data() + i * cols; }
  View<float, 2> view() { return {values.data(), {rows, cols}}; }
  [[nodiscard]] View<const float, 2> view() const { return {values.data(), {rows, cols}}; }
};

}  // namespace comet::quant
