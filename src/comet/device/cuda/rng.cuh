// base/rng.h on the device: the same 64 bits for the same seed, stream and counter, so that what is
// drawn on a GPU equals what a CPU draws. Callers: kernels that sample or fill.
#pragma once

#include <cstdint>

namespace comet {

/// The finalizer of splitmix64 (Steele, Lea, Flood 2014).
__host__ __device__ __forceinline__ uint64_t rng_mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  return z ^ (z >> 31);
}

__host__ __device__ __forceinline__ uint64_t rng_key(uint64_t seed, uint64_t stream) {
  return rng_mix(seed + 0x9E3779B97F4A7C15ULL * (stream + 1));
}

/// Rng(seed, stream).bits(counter) where key is rng_key(seed, stream).
__host__ __device__ __forceinline__ uint64_t rng_bits(uint64_t key, uint64_t counter) {
  return rng_mix(key ^ rng_mix(counter + 0x9E3779B97F4A7C15ULL));
}

}  // namespace comet
