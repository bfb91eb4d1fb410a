// A head of a step's q, k or v by one warp: from the product's row, normed, turned, rotated, to q
// or its row of a page. Callers: append.cu, decode/step_token.cuh.
#pragma once

#include <cuda_bf16.h>

#include "comet/kv/cuda/append/append.h"
#include "comet/kv/cuda/append/encode.cuh"

namespace comet::kv {

struct SineCosine {
  float sine;
  float cosine;
};

/// For 0 ≤ angle < 2^30. The remainder after quarter turns in FP64 leaves |r| ≤ π/4 with an error
/// below 2^−30, then the minimax polynomials of Cephes' sinf and cosf.
__device__ __forceinline__ SineCosine sine_cosine(float angle) {
  const double turns = rint(static_cast<double>(angle) * 0.63661977236758134308);
  const auto r =
      static_cast<float>(__fma_rn(-turns, 1.57079632679489661923, static_cast<double>(angle)));
  const int quarter = static_cast<int>(turns) & 3;
  const float z = r * r;
  const float sine_tail = fmaf(fmaf(-1.9515295891E-4F, z, 8.3321608736E-3F), z, -1.6666654611E-1F);
  const float s = fmaf(sine_tail * z, r, r);
  const float cosine_tail =
      fmaf(fmaf(2.443315711809948E-5F, z, -1.388731625493765E-3F), z, 4.166664568298827E-2F);
  const float c = fmaf(cosine_tail * z, z, fmaf(-0.5F, z, 1.0F));
  const float sine = (quarter & 1) != 0 ? c : s;
  const float cosine = (quarter & 1) != 0 ? s : c;
  return {(quarter & 2) != 0 ? -sine : sine, ((quarter + 1) & 2) != 0 ? -cosine : cosine};
}

__device__ __forceinline__ float bf16_value(uint16_t bits) {
  return __uint_as_float(static_cast<uint32_t>(bits) << 16);
}

__device__ __forceinline__ uint16_t bf16_bits(float x) {
  return __bfloat16_as_ushort(__float2bfloat16_rn(x));
}

/// kRun neighbouring BF16 values.
template <int kRun>
__device__ __forceinline__ void load_run(float* x, const uint16_t* row) {
  if constexpr (kRun == 2) {
    const uint32_t pair = *reinterpret_cast<const uint32_t*>(row);
    x[0] = __uint_as_float(pair << 16);
    x[1] = __uint_as_float(pair & 0xFFFF0000U);
  } else {
    x[0] = bf16_value(row[0]);
  }
}

template <int kRun>
__device__ __forceinline__ void store_run(uint16_t* row, const float* x) {
  if constexpr (kRun == 2) {
    *reinterpret_cast<uint32_t*>(row) = bf16_bits(x[0]) | static_cast<uint32_t>(bf16_bits(x[1]))
                                                              << 16;
  } else {
    row[0] = bf16_bits(x[0]);
  }
}

/// x · weight / rms(x) of one head.
template <int kCount>
__device__ __forceinline__ void norm_head(float (&x)[kCount], const float* weight, float eps) {
  constexpr int kDim = kCount * 32;
  constexpr int kRun = kCount / 2;
  float sum = 0.0F;
#pragma unroll
  for (int i = 0; i < kCount; ++i) sum = fmaf(x[i], x[i], sum);
#pragma unroll
  for (int stride = 16; stride > 0; stride /= 2) sum += __shfl_xor_sync(kAllLanes, sum, stride);
  const float scale = 1.0F / sqrtf(sum / static_cast<float>(kDim) + eps);
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    const int dim = i / kRun * (kDim / 2) + kRun * lane + i % kRun;
    x[i] = x[i] * scale * weight[dim];
  }
}

/// A position's turns, for all threads behind a barrier.
template <int kDim>
struct Angles {
  float cosines[kDim / 2];
  float sines[kDim / 2];

  __device__ __forceinline__ void set(int32_t position, const float* inv_freq) {
    if (threadIdx.x >= kDim / 2) return;
    const SineCosine turn = sine_cosine(static_cast<float>(position) * inv_freq[threadIdx.x]);
    cosines[threadIdx.x] = turn.cosine;
    sines[threadIdx.x] = turn.sine;
  }
};

template <int kCount>
__device__ __forceinline__ void rope_head(float (&x)[kCount], const Angles<32 * kCount>& angles) {
  constexpr int kRun = kCount / 2;
#pragma unroll
  for (int j = 0; j < kRun; ++j) {
    const float c = angles.cosines[kRun * (threadIdx.x % 32) + j];
    const float s = angles.sines[kRun * (threadIdx.x % 32) + j];
    const float a = x[j];
    const float b = x[kRun + j];
    x[j] = a * c - b * s;
    x[kRun + j] = b * c + a * s;
  }
}

/// Stages of stride 1, 2, 4 …: inside the run, over the lanes, between the halves.
template <int kCount>
__device__ __forceinline__ void hadamard_head(float (&x)[kCount]) {
  constexpr int kRun = kCount / 2;
  const auto combine = [](float& a, float& b) {
    const float sum = a + b;
    b = a - b;
    a = sum;
  };
  if constexpr (kRun == 2) {
    combine(x[0], x[1]);
    combine(x[2], x[3]);
  }
#pragma unroll
  for (int stride = 1; stride < 32; stride *= 2) {
    const float sign = (threadIdx.x & stride) != 0 ? -1.0F : 1.0F;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const float other = __shfl_xor_sync(kAllLanes, x[i], stride);
      x[i] = fmaf(x[i], sign, other);  // rounded once: the sum or the difference
    }
  }
#pragma unroll
  for (int j = 0; j < kRun; ++j) combine(x[j], x[kRun + j]);
  constexpr auto kFactor =
      static_cast<float>(kCount == 4 ? 0.088388347648318440550 : 0.125);  // 1/√128, 1/√64
#pragma unroll
  for (int i = 0; i < kCount; ++i) x[i] *= kFactor;
}

template <PageFormat kFormat, int kCount>
__device__ __forceinline__ void store_row(uint8_t* part, int row_idx, bool is_value,
                                          const float (&x)[kCount], uint8_t* staged,
                                          uint64_t* num_saturated) {
  constexpr int kDim = kCount * 32;
  constexpr int kRun = kCount / 2;
  if constexpr (kFormat == PageFormat::kKv16) {
    const int dim = kRun * (threadIdx.x % 32);
    using Map = PageMap<kFormat, kDim>;  // K and V lie alike
    store_run<kRun>(reinterpret_cast<uint16_t*>(part + Map::key_byte(row_idx, dim)), x);
    store_run<kRun>(reinterpret_cast<uint16_t*>(part + Map::key_byte(row_idx, kDim / 2 + dim)),
                    x + kRun);
  } else {
    const RowCodes<kCount> row =
        kFormat == PageFormat::kKv8 ? codes_of_row_kv8(x) : codes_of_row_kv4(x);
    store_codes<kFormat, kDim>(part, row_idx, is_value, row, staged);
    if (row.saturated && num_saturated != nullptr && threadIdx.x % 32 == 0) {
      atomicAdd(reinterpret_cast<unsigned long long*>(num_saturated), 1ULL);
    }
  }
}

/// The part of a token's head in its page.
template <PageFormat kFormat, int kDim>
__device__ __forceinline__ uint8_t* part_of(uint8_t* pages, int32_t slot, int num_kv_heads,
                                            int kv_head, bool is_value) {
  using Map = PageMap<kFormat, kDim>;
  const int64_t head = static_cast<int64_t>(slot / kPageRows) * num_kv_heads + kv_head;
  return pages + head * Map::kHeadBytes + (is_value ? Map::kPartBytes : 0);
}

/// Head i of q | k | v of a token: where it comes from and goes to.
struct HeadPlace {
  bool is_query;
  bool is_value;
  int kv_head;

  __device__ __forceinline__ HeadPlace(const AppendParams& p, int i)
      : is_query(i < p.num_heads),
        is_value(i >= p.num_heads + p.num_kv_heads),
        kv_head(is_query ? 0 : i - p.num_heads - (is_value ? p.num_kv_heads : 0)) {}
};

/// Head i of q | k | v of a token, in memory.
template <int kDim>
__device__ __forceinline__ const uint16_t* head_row(const AppendParams& p, int64_t token, int i) {
  const HeadPlace place(p, i);
  if (place.is_query) return p.q + token * p.q_stride + i * kDim;
  if (place.is_value) return p.v + token * p.v_stride + place.kv_head * kDim;
  return p.k + token * p.k_stride + place.kv_head * kDim;
}

template <int kDim>
__device__ __forceinline__ void load_head(float (&x)[kDim / 32], const uint16_t* row) {
  constexpr int kRun = kDim / 64;
  const int dim = kRun * static_cast<int>(threadIdx.x % 32);
  load_run<kRun>(x, row + dim);
  load_run<kRun>(x + kRun, row + kDim / 2 + dim);
}

/// Norm, RoPE and rotation of a head of q or k.
template <int kCount>
__device__ __forceinline__ void turn_head(float (&x)[kCount], const AppendParams& p,
                                          const HeadPlace& place,
                                          const Angles<32 * kCount>& angles) {
  if (place.is_value) return;
  const float* norm = place.is_query ? p.q_norm : p.k_norm;
  if (norm != nullptr) norm_head(x, norm, p.norm_eps);
  rope_head(x, angles);
  if (p.rotate) hadamard_head(x);
}

/// BF16, in the order of dims.
template <int kDim>
__device__ __forceinline__ void store_query(uint16_t* out, const float (&x)[kDim / 32]) {
  constexpr int kRun = kDim / 64;
  const int dim = kRun * static_cast<int>(threadIdx.x % 32);
  store_run<kRun>(out + dim, x);
  store_run<kRun>(out + kDim / 2 + dim, x + kRun);
}

}  // namespace comet::kv
