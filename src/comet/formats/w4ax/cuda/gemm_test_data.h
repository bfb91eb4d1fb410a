// Random operands of w4ax's products on the device. Callers: the CUDA tests of this folder.
#pragma once

#include <algorithm>
#include <vector>

#include "comet/base/rng.h"
#include "support/gpu.h"

namespace comet::formats::w4ax::cuda {

/// Bytes least … most.
inline std::vector<uint8_t> random_bytes(int64_t count, uint64_t seed, int least, int most) {
  Rng rng(seed);
  std::vector<uint8_t> bytes(static_cast<size_t>(count));
  const auto num_values = static_cast<uint64_t>(most - least) + 1;
  for (uint8_t& byte : bytes) {
    byte = static_cast<uint8_t>(least + static_cast<int>(rng.next_below(num_values)));
  }
  return bytes;
}

/// Of both signs, a quarter of them negative.
inline std::vector<float> random_floats(int64_t count, uint64_t seed) {
  Rng rng(seed);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = (rng.next_uniform() - 0.25F) * 0.01F;
  return values;
}

/// A million random bytes least … most, again and again.
inline void fill(const testing::DeviceArray<uint8_t>& bytes, uint64_t seed, int least, int most) {
  const auto own = random_bytes(static_cast<int64_t>(std::min(bytes.bytes(), size_t{1} << 20)),
                                seed, least, most);
  for (size_t at = 0; at < bytes.bytes(); at += own.size()) {
    COMET_CUDA(cudaMemcpy(bytes.get() + at, own.data(), std::min(own.size(), bytes.bytes() - at),
                          cudaMemcpyHostToDevice));
  }
}

}  // namespace comet::formats::w4ax::cuda
