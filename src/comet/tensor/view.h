// View<T, N>: pointer, sizes and strides; trivially copyable. The only thing a kernel sees.
#pragma once

#include <array>
#include <cstdint>

#include "comet/base/check.h"

namespace comet {

template <typename T, int N>
struct View {
  T* data = nullptr;
  std::array<int64_t, N> sizes{};
  std::array<int64_t, N> strides{};  // in elements

  View() = default;
  /// Contiguous, last index fastest.
  View(T* pointer, std::array<int64_t, N> shape) : data(pointer), sizes(shape) {
    int64_t stride = 1;
    for (int i = N - 1; i >= 0; --i) {
      strides[i] = stride;
      stride *= sizes[i];
    }
  }
  View(T* pointer, std::array<int64_t, N> shape, std::array<int64_t, N> steps)
      : data(pointer), sizes(shape), strides(steps) {}
  /// A view of mutable data serves where constant data is asked for.
  // NOLINTNEXTLINE(google-explicit-constructor)
  operator View<const T, N>() const { return {data, sizes, strides}; }

  [[nodiscard]] int64_t size(int axis) const { return sizes[axis]; }
  /// Pointer to row i (axis 0).
  T* row(int64_t i) const { return data + i * strides[0]; }
  T& operator()(int64_t i) const
    requires(N == 1)
  {
    return data[i * strides[0]];
  }
  T& operator()(int64_t i, int64_t j) const
    requires(N == 2)
  {
    return data[i * strides[0] + j * strides[1]];
  }
  T& operator()(int64_t i, int64_t j, int64_t k) const
    requires(N == 3)
  {
    return data[i * strides[0] + j * strides[1] + k * strides[2]];
  }
};

}  // namespace comet
