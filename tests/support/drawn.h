// Values drawn by name and never stored, for goldens of models: drawn(name)[i] =
// 2·Rng(fnv1a(name)).uniform(i) − 1. tools/drawn.py draws the same for the oracles.
#pragma once

#include <cstdint>
#include <string_view>

#include "comet/base/rng.h"
#include "comet/device/device.h"

namespace comet::testing {

inline uint64_t fnv1a(std::string_view name) {
  uint64_t value = 0xCBF29CE484222325ULL;
  for (const char c : name) value = (value ^ static_cast<unsigned char>(c)) * 0x100000001B3ULL;
  return value;
}

/// FP32 of offset + scale · drawn(name).
inline Tensor draw(std::string_view name, const Shape& shape, double offset, double scale) {
  Tensor tensor = allocate_tensor(host_allocator(), DType::kF32, shape);
  const Rng rng(fnv1a(name));
  auto* values = tensor.data<float>();
  for (int64_t i = 0; i < tensor.num_elements(); ++i) {
    const double u = 2.0 * double{rng.uniform(static_cast<uint64_t>(i))} - 1.0;
    values[i] = static_cast<float>(offset + scale * u);
  }
  return tensor;
}

}  // namespace comet::testing
