// The Hadamard transform of docs/formats.md §1 within one warp: stages of stride 1, 2, 4 … n/2,
// each (a + b, a − b), then one product with float(1/√n). Callers: kernels that rotate heads or
// blocks. Lane l holds elements l, l + 32, l + 64 … (n = 32 · kNum; with kNum = 1 also smaller
// powers of two in the first n lanes). Bit for bit the CPU's.
#pragma once

#include <cstdint>

namespace comet::ops_cuda {

/// All lanes of a warp; n is a power of two, 32 · kNum, or below 32 with kNum = 1.
template <int kNum>
__device__ __forceinline__ void hadamard_warp(float (&v)[kNum], int n, float factor) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int stride = 1; stride < 32; stride *= 2) {
    if (stride >= n) break;
#pragma unroll
    for (int i = 0; i < kNum; ++i) {
      const float other = __shfl_xor_sync(0xFFFFFFFF, v[i], stride);
      v[i] = (lane & stride) == 0 ? v[i] + other : other - v[i];
    }
  }
#pragma unroll
  for (int stride = 1; stride < kNum; stride *= 2) {
#pragma unroll
    for (int i = 0; i < kNum; ++i) {
      if ((i & stride) != 0) continue;
      const float a = v[i];
      const float b = v[i + stride];
      v[i] = a + b;
      v[i + stride] = a - b;
    }
  }
#pragma unroll
  for (int i = 0; i < kNum; ++i) v[i] *= factor;
}

}  // namespace comet::ops_cuda
