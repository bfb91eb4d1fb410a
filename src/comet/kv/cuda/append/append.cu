// q, k, v rows of a step -> q ready for attention, k and v in the cache:
//   y = rotate?(rope(norm?(x))) for heads of q and k, y = x for v.
// Operands: BF16 rows [tokens, heads · head_dim] with strides; q_out BF16 contiguous; pages of
// page_map.h.
// Grid: (tokens, groups of heads), 8 warps a CTA: with few tokens a warp has one head of q | k | v,
// with many one CTA has the token. A CTA computes the token's cosines and sines once into shared
// memory, where CTAs share a token before it waits for the kernel ahead, else while rows come; a
// warp asks for up to kStagedHeads heads at once.
// Numerics: FP32; the angle is the FP32 product position · inv_freq, reduced in FP64, sine and
// cosine by polynomials within 2 ulp; Hadamard and codes in the order of docs/formats.md. Bytes of
// LLaMA-3-8B and kv16: 12 KB read, 12 KB written a token: 64 tokens 0.4 µs (latency rules), 32,768
// tokens 190 µs at 4.3 TB/s.
#include <algorithm>

#include "comet/device/cuda/overlapped_launch.cuh"
#include "comet/device/cuda/prims/control.cuh"
#include "comet/device/cuda/prims/cp_async.cuh"
#include "comet/kv/cuda/append/append.h"
#include "comet/kv/cuda/append/head.cuh"

namespace comet::kv {
namespace {

constexpr int kWarps = 8;
constexpr int kStagedHeads = 6;  // of a warp at a time
constexpr int kCtasAtOnce = 6;   // of an SM, with 40 registers

/// Heads of a token as they lie in memory, some of a warp's, asked for at once.
template <int kDim>
struct StagedHeads {
  uint32_t words[kWarps][kStagedHeads][kDim / 2];

  __device__ __forceinline__ void copy(const AppendParams& p, int64_t token, int warp, int first,
                                       int step, int num_heads) {
    const int lane = threadIdx.x % 32;
#pragma unroll 1
    for (int n = 0, i = first; n < kStagedHeads && i < num_heads; ++n, i += step) {
      const uint16_t* row = head_row<kDim>(p, token, i);
#pragma unroll
      for (int word = 0; word < kDim / 2; word += 32) {
        prims::cp_async_4(&words[warp][n][word + lane], row + 2 * (word + lane));
      }
    }
    prims::cp_async_commit();
  }
};

template <PageFormat kFormat, int kDim>
__global__ void __launch_bounds__(kWarps * 32) append_kernel(const AppendParams p) {
  constexpr int kCount = kDim / 32;
  __shared__ Angles<kDim> angles;
  __shared__ StagedHeads<kDim> heads;
  __shared__ uint8_t staged[kWarps][kDim];
  const int64_t token = blockIdx.x;
  // In a uniform register: shuffles in a loop over heads need no question who takes part.
  const int warp = __shfl_sync(kAllLanes, static_cast<int>(threadIdx.x / 32), 0);
  prims::allow_next_kernel();
  // Positions and slots were there before the kernel ahead began (append.h).
  const int32_t slot = p.slots[token];
  const int32_t position = p.positions[token];
  const int num_heads = p.num_heads + 2 * p.num_kv_heads;
  const int step = kWarps * static_cast<int>(gridDim.y);
  int first = kWarps * static_cast<int>(blockIdx.y) + warp;
  // Of many tokens the kernel ahead has ended for all but the first: there, rows come while angles
  // are computed.
  const bool shares_token = gridDim.y > 1;
  if (shares_token) angles.set(position, p.inv_freq);
  prims::wait_for_previous_kernel();
  bool is_begin = true;
  do {
    heads.copy(p, token, warp, first, step, num_heads);
    if (is_begin) {
      if (!shares_token) angles.set(position, p.inv_freq);
      __syncthreads();
      is_begin = false;
    }
    prims::cp_async_wait<0>();
    __syncwarp();
    for (int n = 0; n < kStagedHeads && first < num_heads; ++n, first += step) {
      float x[kCount];
      load_head<kDim>(x, reinterpret_cast<const uint16_t*>(heads.words[warp][n]));
      const HeadPlace place(p, first);
      turn_head(x, p, place, angles);
      if (place.is_query) {
        store_query<kDim>(p.q_out + (token * p.num_heads + first) * kDim, x);
      } else {
        uint8_t* part =
            part_of<kFormat, kDim>(p.pages, slot, p.num_kv_heads, place.kv_head, place.is_value);
        store_row<kFormat>(part, slot % kPageRows, place.is_value, x, staged[warp],
                           p.num_saturated);
      }
    }
    __syncwarp();
  } while (first < num_heads);
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
void launch_append_of(const AppendParams& p, PageFormat format, cudaStream_t stream) {
  const int num_heads = p.num_heads + 2 * p.num_kv_heads;
  // As few heads a warp as CTAs that run at once allow.
  const int64_t room = int64_t{kCtasAtOnce} * device_attribute(cudaDevAttrMultiProcessorCount);
  const int most_groups = (num_heads + kWarps - 1) / kWarps;
  const auto heads_of_warp = static_cast<int>(
      std::min<int64_t>((int64_t{most_groups} * p.num_tokens + room - 1) / room, most_groups));
  const int num_groups = (most_groups + heads_of_warp - 1) / heads_of_warp;
  const dim3 grid(static_cast<unsigned>(p.num_tokens), static_cast<unsigned>(num_groups));
  const LaunchShape shape{grid, kWarps * 32, 0, stream, p.overlaps};
  if (format == PageFormat::kKv16) {
    launch_overlapped(shape, append_kernel<PageFormat::kKv16, kDim>, p);
  } else if (format == PageFormat::kKv8) {
    launch_overlapped(shape, append_kernel<PageFormat::kKv8, kDim>, p);
  } else {
    launch_overlapped(shape, append_kernel<PageFormat::kKv4, kDim>, p);
  }
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
  if (head_dim == 64) launch_append_of<64>(params, format, stream);
  if (head_dim == 128) launch_append_of<128>(params, format, stream);
  return cudaSuccess;
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
