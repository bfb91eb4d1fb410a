// Outputs of a warp as wgmma leaves its sums of 16 rows (M) × 8 · i tokens (N): element 4 · i + j
// of a lane is row lane / 4 + 8 · (j / 2), token 8 · i + lane % 4 · 2 + j % 2. They go to memory
// from registers, in sectors of 32 bytes, without a way through shared memory. Callers: the ends of
// w4a16's and w4ax's products.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "comet/device/cuda/prims/ldmatrix.cuh"

namespace comet::formats::cuda {

/// Where outputs go: [token][row], of num_rows rows and num_tokens tokens; what is beyond is not
/// written.
struct FragmentTarget {
  void* out;
  int64_t stride;  // elements from token to token
  bool is_bf16;    // else F32
  int num_rows;
  int num_tokens;

  template <int kCount>
  __device__ __forceinline__ void store(const float (&sums)[kCount], int first_row,
                                        int first_token) const {
    if (is_bf16) {
      store_bf16(sums, first_row, first_token);
    } else {
      store_f32(sums, first_row, first_token);
    }
  }

 private:
  template <int kCount>
  __device__ __forceinline__ void store_f32(const float (&sums)[kCount], int first_row,
                                            int first_token) const {
    const int group = static_cast<int>(threadIdx.x) % 32 / 4;
    const int quad = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const int row = first_row + group + 8 * (i % 4 / 2);
      const int token = first_token + i / 4 * 8 + 2 * quad + i % 2;
      if (row >= num_rows || token >= num_tokens) continue;
      static_cast<float*>(out)[token * stride + row] = sums[i];
    }
  }

  /// Fragments turned over: a lane has four neighbouring rows of token `group` of eight.
  template <int kCount>
  __device__ __forceinline__ void store_bf16(const float (&sums)[kCount], int first_row,
                                             int first_token) const {
    const bool is_odd = threadIdx.x % 2 == 1;
    const int row = first_row + (is_odd ? 8 : 0) + static_cast<int>(threadIdx.x) % 4 / 2 * 4;
    int token = first_token + static_cast<int>(threadIdx.x) % 32 / 4;
    auto* to = static_cast<uint16_t*>(out) + token * stride + row;
    const bool is_whole =
        row + 4 <= num_rows && stride % 4 == 0 && reinterpret_cast<uint64_t>(out) % 8 == 0;
#pragma unroll
    for (int i = 0; i < kCount / 4; ++i) {
      uint32_t halves[2];  // rows 2 · quad and 2 · quad + 1 of 8
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const __nv_bfloat162 tokens =
            __floats2bfloat162_rn(sums[4 * i + 2 * half], sums[4 * i + 2 * half + 1]);
        halves[half] = prims::movmatrix_trans(reinterpret_cast<const uint32_t&>(tokens));
      }
      const uint32_t other = __shfl_xor_sync(0xFFFFFFFF, is_odd ? halves[0] : halves[1], 1);
      const uint2 rows = is_odd ? make_uint2(other, halves[1]) : make_uint2(halves[0], other);
      if (token < num_tokens) {
        if (is_whole) {
          *reinterpret_cast<uint2*>(to) = rows;
        } else {
          store_some(to, rows, num_rows - row);
        }
      }
      token += 8;
      to += 8 * stride;
    }
  }

  /// The first `count` of four.
  static __device__ __noinline__ void store_some(uint16_t* to, uint2 rows, int count) {
    for (int i = 0; i < min(count, 4); ++i) {
      to[i] = static_cast<uint16_t>((i < 2 ? rows.x : rows.y) >> (16 * (i % 2)));
    }
  }
};

}  // namespace comet::formats::cuda
