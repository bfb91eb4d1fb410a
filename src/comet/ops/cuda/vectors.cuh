// Spans of eight neighbouring floats of any type: how the plain operators read and write rows.
// Callers: the .cu files of this room and of engine/sampling. A warp's 32 spans are one contiguous
// piece of a row; with 16-byte aligned rows (is_wide) a span is one or two 16-byte accesses.
#pragma once

#include <cstdint>

#include "comet/device/cuda/prims/convert.cuh"
#include "comet/ops/cuda/launches.h"

namespace comet::ops_cuda {

constexpr int kSpan = 8;
constexpr int kThreads = 256;  // of the element-wise kernels

/// Where the thread's span lies; `count` elements of it exist (0: the thread has nothing to do).
struct Span {
  int64_t row = 0;
  int64_t column = 0;
  int count = 0;
};

/// The span of this thread where thread i of the grid takes the i-th span of a [rows, n] matrix.
__device__ __forceinline__ Span span_of_thread(int64_t rows, int64_t n) {
  const uint32_t spans_per_row = static_cast<uint32_t>((n + kSpan - 1) / kSpan);
  const uint64_t idx = static_cast<uint64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  Span span;
  if (idx >= static_cast<uint64_t>(rows) * spans_per_row) return span;
  // A 64-bit division costs more than the rest of the thread: avoided where it can be.
  const uint64_t row =
      idx >> 32 == 0 ? static_cast<uint32_t>(idx) / spans_per_row : idx / spans_per_row;
  span.row = static_cast<int64_t>(row);
  span.column = static_cast<int64_t>(idx - row * spans_per_row) * kSpan;
  const int64_t rest = n - span.column;
  span.count = rest < kSpan ? static_cast<int>(rest) : kSpan;
  return span;
}

/// Where head head_idx of all tokens' begins, in elements.
__device__ __forceinline__ int64_t head_begin(const FloatHeads& x, int64_t head_idx) {
  const int64_t token = head_idx / x.num_heads;
  return token * x.token_stride + (head_idx - token * x.num_heads) * x.head_stride;
}

__device__ __forceinline__ float load_one(const void* data, FloatType type, int64_t i) {
  if (type == FloatType::kF32) return static_cast<const float*>(data)[i];
  const uint16_t bits = static_cast<const uint16_t*>(data)[i];
  return type == FloatType::kBF16 ? prims::f32_of_bf16(bits) : prims::f32_of_f16(bits);
}

__device__ __forceinline__ void store_one(void* data, FloatType type, int64_t i, float x) {
  if (type == FloatType::kF32) {
    static_cast<float*>(data)[i] = x;
  } else {
    const uint32_t bits =
        type == FloatType::kBF16 ? prims::bf16x2_of(x, 0.0F) : prims::f16x2_of(x, 0.0F);
    static_cast<uint16_t*>(data)[i] = static_cast<uint16_t>(bits);
  }
}

/// v = data[i … i + count − 1], the rest 0. is_wide: element i is 16-byte aligned.
__device__ __forceinline__ void load_span(float (&v)[kSpan], const void* data, FloatType type,
                                          int64_t i, int count, bool is_wide) {
  if (!is_wide || count < kSpan) {
#pragma unroll
    for (int j = 0; j < kSpan; ++j) v[j] = j < count ? load_one(data, type, i + j) : 0.0F;
    return;
  }
  if (type == FloatType::kF32) {
    const auto* p = reinterpret_cast<const float4*>(static_cast<const float*>(data) + i);
    const float4 a = p[0];
    const float4 b = p[1];
    v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w;
    v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
    return;
  }
  const uint4 bits = *reinterpret_cast<const uint4*>(static_cast<const uint16_t*>(data) + i);
  const uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const auto low = static_cast<uint16_t>(words[j]);
    const auto high = static_cast<uint16_t>(words[j] >> 16);
    v[2 * j] = type == FloatType::kBF16 ? prims::f32_of_bf16(low) : prims::f32_of_f16(low);
    v[2 * j + 1] = type == FloatType::kBF16 ? prims::f32_of_bf16(high) : prims::f32_of_f16(high);
  }
}

/// data[i … i + count − 1] = v. is_wide: element i is 16-byte aligned.
__device__ __forceinline__ void store_span(void* data, FloatType type, int64_t i,
                                           const float (&v)[kSpan], int count, bool is_wide) {
  if (!is_wide || count < kSpan) {
#pragma unroll
    for (int j = 0; j < kSpan; ++j) {
      if (j < count) store_one(data, type, i + j, v[j]);
    }
    return;
  }
  if (type == FloatType::kF32) {
    auto* p = reinterpret_cast<float4*>(static_cast<float*>(data) + i);
    p[0] = make_float4(v[0], v[1], v[2], v[3]);
    p[1] = make_float4(v[4], v[5], v[6], v[7]);
    return;
  }
  uint32_t words[4];
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    words[j] = type == FloatType::kBF16 ? prims::bf16x2_of(v[2 * j], v[2 * j + 1])
                                        : prims::f16x2_of(v[2 * j], v[2 * j + 1]);
  }
  *reinterpret_cast<uint4*>(static_cast<uint16_t*>(data) + i) =
      make_uint4(words[0], words[1], words[2], words[3]);
}

__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(0xFFFFFFFF, x, step);
  return x;
}

/// The sum over the CTA, the same bits in every thread. `partial` holds 32 floats of shared memory,
/// not used again before a barrier. blockDim.x is a multiple of 32.
__device__ __forceinline__ float block_sum(float x, float* partial) {
  x = warp_sum(x);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = x;
  __syncthreads();
  return warp_sum(threadIdx.x % 32 < blockDim.x / 32 ? partial[threadIdx.x % 32] : 0.0F);
}

// Host side.

inline int64_t element_bytes(FloatType type) { return type == FloatType::kF32 ? 4 : 2; }

/// Whether every row of `x` starts 16-byte aligned (an absent matrix is no hindrance).
inline bool has_wide_rows(const FloatRows& x) {
  const auto at = reinterpret_cast<uintptr_t>(x.data);
  return at % 16 == 0 && x.stride * element_bytes(x.type) % 16 == 0;
}

inline bool has_wide_heads(const FloatHeads& x) {
  const auto at = reinterpret_cast<uintptr_t>(x.data);
  const int64_t bytes = element_bytes(x.type);
  return at % 16 == 0 && x.token_stride * bytes % 16 == 0 && x.head_stride * bytes % 16 == 0;
}

/// CTAs of kThreads that give each span of a [rows, n] matrix a thread.
inline unsigned span_blocks(int64_t rows, int64_t n) {
  return static_cast<unsigned>((rows * ((n + kSpan - 1) / kSpan) + kThreads - 1) / kThreads);
}

}  // namespace comet::ops_cuda
