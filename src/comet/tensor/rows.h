// Rows, ConstRows: a matrix of floats in one of the float types, with a stride: what ops, formats
// and kv hand to one another where the device decides the type (CPU: FP32; CUDA: BF16 behind a
// product). Kernels of one type take a View: f32().
#pragma once

#include "comet/tensor/tensor.h"

namespace comet {

struct ConstRows {
  const void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t num_rows = 0;
  int64_t num_columns = 0;
  int64_t stride = 0;  // elements from row to row; the elements of a row lie side by side

  ConstRows() = default;
  ConstRows(const void* pointer, DType type, int64_t rows, int64_t columns, int64_t row_stride)
      : data(pointer), dtype(type), num_rows(rows), num_columns(columns), stride(row_stride) {}
  // Each of these is such a matrix already.
  // NOLINTBEGIN(google-explicit-constructor)
  ConstRows(View<const float, 2> x)
      : ConstRows(x.data, DType::kF32, x.size(0), x.size(1), x.strides[0]) {
    COMET_CHECK(x.strides[1] == 1 || x.size(1) <= 1, "elements of a row lie {} apart",
                x.strides[1]);
  }
  ConstRows(View<float, 2> x) : ConstRows(View<const float, 2>(x)) {}
  ConstRows(const Tensor& x) : ConstRows(x.raw(), x.dtype(), x.size(0), x.size(1), x.stride(0)) {
    COMET_CHECK(x.shape().rank() == 2 && (x.stride(1) == 1 || x.size(1) <= 1), "{} as rows",
                x.shape().to_string());
  }
  // NOLINTEND(google-explicit-constructor)

  [[nodiscard]] bool empty() const { return data == nullptr; }
  [[nodiscard]] View<const float, 2> f32() const {
    COMET_CHECK(dtype == DType::kF32, "rows of {}", dtype_name(dtype));
    return {static_cast<const float*>(data), {num_rows, num_columns}, {stride, 1}};
  }
};

struct Rows {
  void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t num_rows = 0;
  int64_t num_columns = 0;
  int64_t stride = 0;

  Rows() = default;
  // NOLINTBEGIN(google-explicit-constructor)
  Rows(View<float, 2> x) : Rows(ConstRows(x), x.data) {}
  Rows(const Tensor& x) : Rows(ConstRows(x), x.raw()) {}
  operator ConstRows() const { return {data, dtype, num_rows, num_columns, stride}; }
  // NOLINTEND(google-explicit-constructor)

  [[nodiscard]] bool empty() const { return data == nullptr; }
  [[nodiscard]] View<float, 2> f32() const {
    COMET_CHECK(dtype == DType::kF32, "rows of {}", dtype_name(dtype));
    return {static_cast<float*>(data), {num_rows, num_columns}, {stride, 1}};
  }

 private:
  Rows(const ConstRows& x, void* pointer)
      : data(pointer),
        dtype(x.dtype),
        num_rows(x.num_rows),
        num_columns(x.num_columns),
        stride(x.stride) {}
};

}  // namespace comet
