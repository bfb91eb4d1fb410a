// Vectors of 1, 2 or 4 neighbouring BF16 channels as FP32: how the kernels over images read and
// write pixels. Callers: inception_mixer, depthwise_conv. A vector is aligned to its own size.
#pragma once

#include <cstdint>

#include "comet/device/cuda/prims/convert.cuh"

namespace comet::ops_cuda {

__device__ __forceinline__ void widen(float& low, float& high, uint32_t bits) {
  low = __uint_as_float(bits << 16);
  high = __uint_as_float(bits & 0xFFFF0000U);
}

template <int kVec>
__device__ __forceinline__ void load_channels(float (&v)[kVec], const uint16_t* p) {
  static_assert(kVec == 1 || kVec == 2 || kVec == 4);
  if constexpr (kVec == 1) {
    v[0] = prims::f32_of_bf16(*p);
  } else if constexpr (kVec == 2) {
    widen(v[0], v[1], *reinterpret_cast<const uint32_t*>(p));
  } else {
    const uint2 bits = *reinterpret_cast<const uint2*>(p);
    widen(v[0], v[1], bits.x);
    widen(v[2], v[3], bits.y);
  }
}

/// The same, zeros where !exists.
template <int kVec>
__device__ __forceinline__ void load_channels_if(float (&v)[kVec], const uint16_t* p, bool exists) {
  if (exists) {
    load_channels(v, p);
  } else {
#pragma unroll
    for (int i = 0; i < kVec; ++i) v[i] = 0.0F;
  }
}

template <int kVec>
__device__ __forceinline__ void store_channels(uint16_t* p, const float (&v)[kVec]) {
  if constexpr (kVec == 1) {
    *p = static_cast<uint16_t>(prims::bf16x2_of(v[0], 0.0F));
  } else if constexpr (kVec == 2) {
    *reinterpret_cast<uint32_t*>(p) = prims::bf16x2_of(v[0], v[1]);
  } else {
    *reinterpret_cast<uint2*>(p) =
        make_uint2(prims::bf16x2_of(v[0], v[1]), prims::bf16x2_of(v[2], v[3]));
  }
}

/// The same added to what is there.
template <int kVec>
__device__ __forceinline__ void add_channels(uint16_t* p, const float (&v)[kVec]) {
  float sum[kVec];
  load_channels(sum, p);
#pragma unroll
  for (int i = 0; i < kVec; ++i) sum[i] += v[i];
  store_channels(p, sum);
}

/// FP32 weights of the same channels; element by element, as they need no alignment, and not as
/// read-only data, as the kernel before may have written them (overlapped_launch.cuh).
template <int kVec>
__device__ __forceinline__ void load_weights(float (&v)[kVec], const float* p) {
#pragma unroll
  for (int i = 0; i < kVec; ++i) v[i] = p[i];
}

template <int kVec>
__device__ __forceinline__ void fma_channels(float (&sum)[kVec], const float (&a)[kVec],
                                             const float (&b)[kVec]) {
#pragma unroll
  for (int i = 0; i < kVec; ++i) sum[i] = fmaf(a[i], b[i], sum[i]);
}

}  // namespace comet::ops_cuda
