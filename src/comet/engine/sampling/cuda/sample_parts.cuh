// What the kernels of sampling share: chunks of a row, weights as integers, and sums over a CTA.
// Callers: sample_stats.cu, sample_choose.cu.
//
// Weights are exp((logit − max) · scale) ≤ 1. Their sums are taken over round(weight · 2⁴⁴) in
// 64-bit integers: exact, so the order of summing (chunks, threads, batches) cannot change a draw,
// and 2¹⁸ tokens do not overflow. What is lost is below 2⁻⁴⁵ of the largest weight per token.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "comet/engine/sampling/cuda/sample.h"

namespace comet::engine {

constexpr int kChunk = 4096;                   // logits per CTA of the first kernels
constexpr float kMassOne = 17592186044416.0F;  // 2⁴⁴
constexpr int kNumRungs = 8;

/// Spreads below the maximum, in nats after the temperature, at which candidates are counted: the
/// first that holds all that top-k, top-p and min-p may keep is collected.
__device__ __forceinline__ constexpr float rung_of(int i) {
  constexpr float kRungs[kNumRungs] = {0.5F, 1.0F, 2.0F, 3.0F, 4.5F, 7.0F, 11.0F, 18.0F};
  return kRungs[i];
}

/// Of one chunk of raw logits.
struct RawStats {
  float max;
  float sum_exp;  // Σ exp(logit − max)
  int32_t argmax;
  int32_t is_finite;
};
/// Of one chunk of edited logits.
struct EditedStats {
  float max;
  int32_t argmax;
};
/// Of one chunk's weights: the sum, and below each rung the number of tokens (rows with top-k) or
/// the sum of weights (others).
struct MassStats {
  uint64_t total;
  uint64_t below[kNumRungs];
};

struct Workspace {
  RawStats* raw;        // [rows, chunks]
  EditedStats* edited;  // [rows, chunks]
  MassStats* mass;      // [rows, chunks]
  float* originals;     // [num_edits] raw logits of the edited tokens
};

inline __host__ __device__ int num_chunks(int32_t vocab) { return (vocab + kChunk - 1) / kChunk; }

Workspace split_workspace(const SampleArgs& args);
/// Fills the workspace, and edits the logits.
void launch_sample_stats(const SampleArgs& args, const Workspace& workspace, CUstream_st* stream);

/// An integer that orders as the floats do; −0 counts as +0. Finite values and infinities.
__device__ __forceinline__ uint32_t order_key(float x) {
  const uint32_t bits = __float_as_uint(x + 0.0F);
  return (bits >> 31) != 0 ? ~bits : bits | 0x80000000U;
}

__device__ __forceinline__ bool has_top_k(const SampleRow& row, int32_t vocab) {
  return row.top_k > 0 && row.top_k < vocab;
}

__device__ __forceinline__ uint64_t mass_of(float weight) {
  return __float2ull_rn(weight * kMassOne);
}

/// The maximum with its first index.
struct Best {
  float max = -__builtin_huge_valf();
  int32_t idx = 0x7FFFFFFF;

  __device__ __forceinline__ void take(float other_max, int32_t other_idx) {
    if (other_max > max || (other_max == max && other_idx < idx)) {
      max = other_max;
      idx = other_idx;
    }
  }
};

/// The best of the CTA, in every thread. `shared` holds 32 elements.
__device__ __forceinline__ Best block_best(Best best, Best* shared) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int step = 16; step > 0; step /= 2) {
    best.take(__shfl_xor_sync(0xFFFFFFFF, best.max, step),
              __shfl_xor_sync(0xFFFFFFFF, best.idx, step));
  }
  __syncthreads();  // an earlier use of `shared` has ended
  if (lane == 0) shared[warp] = best;
  __syncthreads();
  best = lane < static_cast<int>(blockDim.x) / 32 ? shared[lane] : Best{};
#pragma unroll
  for (int step = 16; step > 0; step /= 2) {
    best.take(__shfl_xor_sync(0xFFFFFFFF, best.max, step),
              __shfl_xor_sync(0xFFFFFFFF, best.idx, step));
  }
  return best;
}

template <typename T>
__device__ __forceinline__ T warp_total(T x) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(0xFFFFFFFF, x, step);
  return x;
}

/// Each of the kCount sums over the CTA, in every thread. `shared` holds kCount · 33 elements.
template <int kCount, typename T>
__device__ __forceinline__ void block_totals(T (&v)[kCount], T* shared) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int num_warps = static_cast<int>(blockDim.x) / 32;
#pragma unroll
  for (int i = 0; i < kCount; ++i) v[i] = warp_total(v[i]);
  __syncthreads();  // an earlier use of `shared` has ended
  if (lane == 0) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) shared[i * 32 + warp] = v[i];
  }
  __syncthreads();
  for (int i = warp; i < kCount; i += num_warps) {
    const T total = warp_total(lane < num_warps ? shared[i * 32 + lane] : T{});
    if (lane == 0) shared[kCount * 32 + i] = total;
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kCount; ++i) v[i] = shared[kCount * 32 + i];
}

}  // namespace comet::engine
