// Counter-based random numbers: value i of a (seed, stream) pair is a pure function of the three,
// so results do not depend on the order of calls, the batch or the number of threads.
#pragma once

#include <cmath>
#include <cstdint>

namespace comet {

class Rng {
 public:
  explicit Rng(uint64_t seed, uint64_t stream = 0)
      : key_(mix(seed + 0x9E3779B97F4A7C15ULL * (stream + 1))) {}

  /// 64 random bits at position `counter`.
  [[nodiscard]] uint64_t bits(uint64_t counter) const {
    return mix(key_ ^ mix(counter + 0x9E3779B97F4A7C15ULL));
  }
  /// Uniform in [0, 1) with 24 bits.
  [[nodiscard]] float uniform(uint64_t counter) const {
    return static_cast<float>(bits(counter) >> 40) * 0x1p-24F;
  }
  /// Standard normal (Box-Muller on the two halves of one draw).
  [[nodiscard]] float normal(uint64_t counter) const {
    const uint64_t b = bits(counter);
    const float u = (static_cast<float>(b >> 40) + 0.5F) * 0x1p-24F;
    const float v = static_cast<float>((b >> 8) & 0xFFFFFF) * 0x1p-24F;
    return std::sqrt(-2.0F * std::log(u)) * std::cos(6.2831853F * v);
  }

  // The next value of the sequence that starts at counter 0.
  uint64_t next_bits() { return bits(counter_++); }
  float next_uniform() { return uniform(counter_++); }
  float next_normal() { return normal(counter_++); }
  /// Uniform in [0, bound), bound ≥ 1 (bias below 2⁻³²  for bound < 2³²).
  uint64_t next_below(uint64_t bound) {
    return static_cast<uint64_t>((static_cast<unsigned __int128>(next_bits()) * bound) >> 64);
  }

 private:
  /// The finalizer of splitmix64 (Steele, Lea, Flood 2014).
  static uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return z ^ (z >> 31);
  }

  uint64_t key_;
  uint64_t counter_ = 0;
};

}  // namespace comet
