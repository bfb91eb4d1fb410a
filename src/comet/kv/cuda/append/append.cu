// q, k, v rows of a step -> q ready for attention, k and v in the cache:
//   y = rotate?(rope(norm?(x))) for heads of q and k, y = x for v.
// Operands: BF16 rows [tokens, heads · head_dim] with strides; q_out BF16 contiguous; pages of
// page_map.h.
// Grid: a CTA per token, 8 warps; a warp takes every eighth head of q | k | v. The token's cosines
// and sines are computed once into shared memory.
// Numerics: FP32; the angle is the FP32 product position · inv_freq, reduced in FP64, sine and
// cosine by polynomials within 2 ulp; Hadamard and codes in the order of docs/formats.md. Bytes of
// LLaMA-3-8B and kv16: 12 KB read, 12 KB written a token: 64 tokens 0.4 µs (latency rules), 32,768
// tokens 190 µs at 4.3 TB/s.
#include <cuda_bf16.h>

#include "comet/device/cuda/prims/control.cuh"
#include "comet/kv/cuda/append/append.h"
#include "comet/kv/cuda/append/encode.cuh"
#include "comet/kv/cuda/overlapped_launch.cuh"

namespace comet::kv {
namespace {

constexpr int kWarps = 8;

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

template <int kCount>
__device__ __forceinline__ void rope_head(float (&x)[kCount], const float* cosines,
                                          const float* sines) {
  constexpr int kRun = kCount / 2;
#pragma unroll
  for (int j = 0; j < kRun; ++j) {
    const float c = cosines[kRun * (threadIdx.x % 32) + j];
    const float s = sines[kRun * (threadIdx.x % 32) + j];
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
    const bool is_second = (threadIdx.x & stride) != 0;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const float other = __shfl_xor_sync(kAllLanes, x[i], stride);
      x[i] = is_second ? other - x[i] : x[i] + other;
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

template <PageFormat kFormat, int kDim>
__global__ void __launch_bounds__(kWarps * 32) append_kernel(const AppendParams p) {
  constexpr int kCount = kDim / 32;
  constexpr int kRun = kCount / 2;
  __shared__ float cosines[kDim / 2];
  __shared__ float sines[kDim / 2];
  __shared__ uint8_t staged[kWarps][kDim];
  const int64_t token = blockIdx.x;
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  prims::allow_next_kernel();
  prims::wait_for_previous_kernel();
  if (threadIdx.x < kDim / 2) {
    const auto position = static_cast<float>(p.positions[token]);
    const SineCosine turn = sine_cosine(position * p.inv_freq[threadIdx.x]);
    cosines[threadIdx.x] = turn.cosine;
    sines[threadIdx.x] = turn.sine;
  }
  __syncthreads();
  const int32_t slot = p.slots[token];
  for (int i = warp; i < p.num_heads + 2 * p.num_kv_heads; i += kWarps) {
    const bool is_query = i < p.num_heads;
    const int kv_head = (i - p.num_heads) % p.num_kv_heads;
    const bool is_value = i >= p.num_heads + p.num_kv_heads;
    const uint16_t* row = is_query   ? p.q + token * p.q_stride + i * kDim
                          : is_value ? p.v + token * p.v_stride + kv_head * kDim
                                     : p.k + token * p.k_stride + kv_head * kDim;
    float x[kCount];
    load_run<kRun>(x, row + kRun * lane);
    load_run<kRun>(x + kRun, row + kDim / 2 + kRun * lane);
    if (!is_value) {
      const float* norm = is_query ? p.q_norm : p.k_norm;
      if (norm != nullptr) norm_head(x, norm, p.norm_eps);
      rope_head(x, cosines, sines);
      if (p.rotate) hadamard_head(x);
    }
    if (is_query) {
      uint16_t* out = p.q_out + (token * p.num_heads + i) * kDim;
      store_run<kRun>(out + kRun * lane, x);
      store_run<kRun>(out + kDim / 2 + kRun * lane, x + kRun);
    } else {
      uint8_t* part = part_of<kFormat, kDim>(p.pages, slot, p.num_kv_heads, kv_head, is_value);
      store_row<kFormat>(part, slot % kPageRows, is_value, x, staged[warp], p.num_saturated);
    }
  }
}

template <PageFormat kFormat, int kDim>
__global__ void __launch_bounds__(kWarps * 32) encode_rows_kernel(const EncodeRowsParams p) {
  constexpr int kCount = kDim / 32;
  constexpr int kRun = kCount / 2;
  __shared__ uint8_t staged[kWarps][kDim];
  const int64_t token = blockIdx.x;
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const int32_t slot = p.slots[token];
  for (int i = warp; i < 2 * p.num_kv_heads; i += kWarps) {
    const bool is_value = i >= p.num_kv_heads;
    const int kv_head = i % p.num_kv_heads;
    const float* row = (is_value ? p.v : p.k) + (token * p.num_kv_heads + kv_head) * kDim;
    float x[kCount];
#pragma unroll
    for (int j = 0; j < kRun; ++j) {
      x[j] = row[kRun * lane + j];
      x[kRun + j] = row[kDim / 2 + kRun * lane + j];
    }
    uint8_t* part = part_of<kFormat, kDim>(p.pages, slot, p.num_kv_heads, kv_head, is_value);
    store_row<kFormat>(part, slot % kPageRows, is_value, x, staged[warp], p.num_saturated);
  }
}

template <int kDim>
cudaError_t launch_append_of(const AppendParams& p, PageFormat format, cudaStream_t stream) {
  const LaunchShape shape{dim3(static_cast<unsigned>(p.num_tokens)), kWarps * 32, 0, stream,
                          p.overlaps};
  if (format == PageFormat::kKv16) {
    return launch_overlapped(shape, append_kernel<PageFormat::kKv16, kDim>, p);
  }
  if (format == PageFormat::kKv8) {
    return launch_overlapped(shape, append_kernel<PageFormat::kKv8, kDim>, p);
  }
  return launch_overlapped(shape, append_kernel<PageFormat::kKv4, kDim>, p);
}

template <int kDim>
void launch_encode_rows_of(const EncodeRowsParams& p, PageFormat format, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(p.num_tokens));
  if (format == PageFormat::kKv16) {
    encode_rows_kernel<PageFormat::kKv16, kDim><<<grid, kWarps * 32, 0, stream>>>(p);
  } else if (format == PageFormat::kKv8) {
    encode_rows_kernel<PageFormat::kKv8, kDim><<<grid, kWarps * 32, 0, stream>>>(p);
  } else {
    encode_rows_kernel<PageFormat::kKv4, kDim><<<grid, kWarps * 32, 0, stream>>>(p);
  }
}

}  // namespace

cudaError_t launch_append(const AppendParams& params, PageFormat format, int head_dim,
                          cudaStream_t stream) {
  if (head_dim != 64 && head_dim != 128) return cudaErrorInvalidValue;
  if (params.num_tokens == 0) return cudaSuccess;
  return head_dim == 64 ? launch_append_of<64>(params, format, stream)
                        : launch_append_of<128>(params, format, stream);
}

cudaError_t launch_encode_rows(const EncodeRowsParams& params, PageFormat format, int head_dim,
                               cudaStream_t stream) {
  if (head_dim != 64 && head_dim != 128) return cudaErrorInvalidValue;
  if (params.num_tokens == 0) return cudaSuccess;
  if (head_dim == 64) launch_encode_rows_of<64>(params, format, stream);
  if (head_dim == 128) launch_encode_rows_of<128>(params, format, stream);
  return cudaGetLastError();
}

}  // namespace comet::kv
