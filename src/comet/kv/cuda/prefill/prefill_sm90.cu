// o = softmax(q · K^T / √d, causal) · V for chunks of queries over kv16 pages, by wgmma (sm_90a).
// Operands: q BF16 [tokens, heads, d]; kv16 pages of page_map.h; out BF16 [tokens, heads · d].
// Grid: persistent CTAs, one an SM; CTA c has jobs c, c + gridDim.x …, each 128 queries of one
// head. Warpgroup 0: one warp copies tiles of 128 keys (four pages) by
// bulk copies, K and V in rings of two that go on from job to job; the pages lie as wgmma's
// 128-byte swizzle wants them. Warpgroups 1 and 2 have 64 queries each, and ask for the next job's
// before they end one. Tiles pass from the last to the first, so that masks and rows that nobody
// wrote come at the start. Overlap: the scores of a tile are multiplied while the values of the one
// before are; the two warpgroups take turns in issuing, so that one's softmax runs under the
// other's products. Numerics: FP32 scores and softmax (base 2), P in BF16. Flops: 4 · d per query,
// head and visible key; batch 8 × 4,096, LLaMA-3-8B heads: 1.1 TFLOP, 1.1 ms at 989 TFLOP/s. Shared
// memory: 32 KB of Q, 64 KB each of K and V (d = 128).
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <type_traits>

#include "comet/device/cuda/overlapped_launch.cuh"
#include "comet/device/cuda/prims/access.cuh"
#include "comet/device/cuda/prims/bulk_copy.cuh"
#include "comet/device/cuda/prims/control.cuh"
#include "comet/device/cuda/prims/mbarrier.cuh"
#include "comet/device/cuda/prims/wgmma.cuh"
#include "comet/device/cuda/prims/wgmma_bf16.cuh"
#include "comet/device/cuda/prims/wgmma_f16.cuh"
#include "comet/kv/cuda/prefill/prefill_sm90.cuh"

namespace comet::kv {
namespace prefill_sm90 {
namespace {

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
constexpr bool kHasWgmma = true;
#else
constexpr bool kHasWgmma = false;
#endif
constexpr int kProducerRegisters = 56;
constexpr int kConsumerRegisters = 224;
constexpr uint32_t kTurnBarrier = 1;   // and 2: whose turn to issue products
constexpr uint32_t kQueryBarrier = 3;  // and 4: a warpgroup's queries

/// Two values as the products have them: FP16 (kHalf) or BF16.
template <bool kHalf>
__device__ __forceinline__ uint32_t pack(float low, float high) {
  if constexpr (kHalf) {
    const __half2 pair = __floats2half2_rn(low, high);
    return *reinterpret_cast<const uint32_t*>(&pair);
  } else {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const uint32_t*>(&pair);
  }
}

__device__ __forceinline__ uint32_t half_of_bf16(uint32_t pair) {
  return pack<true>(__uint_as_float(pair << 16), __uint_as_float(pair & 0xFFFF0000U));
}

template <bool kHalf, int kN, bool kTransposeB = false>
using Wgmma =
    std::conditional_t<kHalf, prims::WgmmaF16<kN, kTransposeB>, prims::WgmmaBf16<kN, kTransposeB>>;

/// A warpgroup's 64 queries on their way to shared memory; rows that are not there are zeros.
template <int kDim, bool kHalf>
struct Queries {
  static constexpr int kChunks = kDim / 8;  // of 16 bytes in a row
  static constexpr int kCount = 64 * kChunks / 128;
  uint4 chunks[kCount];

  __device__ __forceinline__ void load(const PrefillParams& p, const Job& job, int consumer) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const int at = static_cast<int>(threadIdx.x % 128) + i * 128;
      const int query = job.first_query + consumer * 64 + at / kChunks;
      chunks[i] = make_uint4(0, 0, 0, 0);
      if (query < job.num_queries) {
        chunks[i] = *reinterpret_cast<const uint4*>(
            p.q + ((job.first_row + query) * p.num_heads + job.head) * kDim + at % kChunks * 8);
      }
    }
  }

  /// All of the warpgroup, when its products with the queries before are through.
  __device__ __forceinline__ void store(uint8_t* queries, int consumer) {
    const uint32_t barrier = kQueryBarrier + static_cast<uint32_t>(consumer);
    prims::named_barrier_sync(barrier, 128);
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const int at = static_cast<int>(threadIdx.x % 128) + i * 128;
      const int chunk = at % kChunks;
      uint4 v = chunks[i];
      if constexpr (kHalf) {
        v = make_uint4(half_of_bf16(v.x), half_of_bf16(v.y), half_of_bf16(v.z), half_of_bf16(v.w));
      }
      *reinterpret_cast<uint4*>(queries + chunk / 8 * Shape<kDim>::kHalfBytes +
                                prims::swizzle_128(consumer * 64 + at / kChunks, chunk % 8 * 16)) =
          v;
    }
    prims::fence_proxy_async();
    prims::named_barrier_sync(barrier, 128);
  }
};

/// What a consumer thread has of its 64 queries: rows g and g + 8 of its warp's 16 (h = 0, 1).
template <int kDim>
struct Running {
  float o[kDim / 2] = {};
  float max[2] = {-INFINITY, -INFINITY};
  float sum[2] = {};
  float factor[2];

  /// Scores become weights; o is not brought to the maximum yet, for products may be writing it.
  __device__ __forceinline__ void weigh(float (&s)[kTileKeys / 2], float scale) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float high = max[h];
#pragma unroll
      for (int n = 0; n < kTileKeys / 8; ++n) {
        high = fmaxf(high, fmaxf(s[4 * n + 2 * h], s[4 * n + 2 * h + 1]));
      }
      high = fmaxf(high, __shfl_xor_sync(kAllLanes, high, 1));
      high = fmaxf(high, __shfl_xor_sync(kAllLanes, high, 2));
      const float reference = high == -INFINITY ? 0.0F : high * scale;  // all masked so far
      factor[h] = prims::exp2_approx(fmaf(max[h], scale, -reference));
      max[h] = high;
      float total = 0.0F;
#pragma unroll
      for (int n = 0; n < kTileKeys / 8; ++n) {
#pragma unroll
        for (int e = 2 * h; e < 2 * h + 2; ++e) {
          s[4 * n + e] = prims::exp2_approx(fmaf(s[4 * n + e], scale, -reference));
          total += s[4 * n + e];
        }
      }
      sum[h] = fmaf(sum[h], factor[h], total);
    }
  }
  __device__ __forceinline__ void rescale() {
#pragma unroll
    for (int n = 0; n < kDim / 8; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) o[4 * n + e] *= factor[e / 2];
    }
  }
};

__device__ __forceinline__ void mask_tile(float (&s)[kTileKeys / 2], int first_key, int position) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int i = 0; i < kTileKeys / 2; ++i) {
    const int key = first_key + i / 4 * 8 + lane % 4 * 2 + i % 2;
    if (key > position + i % 4 / 2 * 8) s[i] = -INFINITY;
  }
}

/// Weights as A fragments of steps of 16 keys.
template <bool kHalf>
__device__ __forceinline__ void pack_weights(uint32_t (&a)[kTileKeys / 16][4],
                                             const float (&s)[kTileKeys / 2]) {
#pragma unroll
  for (int j = 0; j < kTileKeys / 16; ++j) {
#pragma unroll
    for (int r = 0; r < 4; ++r) a[j][r] = pack<kHalf>(s[8 * j + 2 * r], s[8 * j + 2 * r + 1]);
  }
}

/// s = q · K^T of one tile; in flight until waited for.
template <int kDim, bool kHalf>
__device__ __forceinline__ void issue_scores(float (&s)[kTileKeys / 2], uint64_t q, uint64_t k) {
  using S = Shape<kDim>;
#pragma unroll
  for (int i = 0; i < kDim / 16; ++i) {
    const uint32_t offset = i / 4 * S::kHalfBytes + i % 4 * 32;
    Wgmma<kHalf, kTileKeys>::ss(s, prims::wgmma_advance(q, offset), prims::wgmma_advance(k, offset),
                                i > 0 ? 1 : 0);
  }
  prims::wgmma_commit();
}

/// o += weights · V of one tile; in flight until waited for.
template <int kDim, bool kHalf>
__device__ __forceinline__ void issue_values(float (&o)[kDim / 2],
                                             const uint32_t (&a)[kTileKeys / 16][4], uint64_t v) {
#pragma unroll
  for (int j = 0; j < kTileKeys / 16; ++j) {
    Wgmma<kHalf, kDim, true>::rs(o, a[j], prims::wgmma_advance(v, j * 16 * 128), 1);
  }
  prims::wgmma_commit();
}

template <int kDim>
__device__ __forceinline__ void store_queries(const PrefillParams& p, const Job& job,
                                              int first_query, Running<kDim>& run) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    run.sum[h] += __shfl_xor_sync(kAllLanes, run.sum[h], 1);
    run.sum[h] += __shfl_xor_sync(kAllLanes, run.sum[h], 2);
    const float inverse = 1.0F / run.sum[h];
    const int query = first_query + lane / 4 + 8 * h;
    if (query >= job.num_queries) continue;
    uint16_t* row = p.out + (job.first_row + query) * p.out_stride + job.head * kDim;
#pragma unroll
    for (int n = 0; n < kDim / 8; ++n) {
      *reinterpret_cast<uint32_t*>(row + 8 * n + lane % 4 * 2) =
          pack<false>(run.o[4 * n + 2 * h] * inverse, run.o[4 * n + 2 * h + 1] * inverse);
    }
  }
}

/// One job's queries of a warpgroup, in shared memory: o of all tiles but the last's products,
/// which are issued here and in flight. On return `count` is that of the job's last tile.
template <int kDim, bool kHalf>
__device__ __forceinline__ void attend(const Job& job, int consumer, const uint8_t* queries,
                                       const uint8_t* keys, const uint8_t* values,
                                       Barriers& barriers, float scale, int& count,
                                       Running<kDim>& run) {
  using S = Shape<kDim>;
  const int lane = threadIdx.x % 32;
  const int warp_row = consumer * 64 + threadIdx.x % 128 / 32 * 16;  // the warp's 16 queries
  const int position = job.first_position + warp_row + lane / 4;     // of row g
  const uint64_t q = prims::wgmma_descriptor_k128(queries + consumer * 64 * 128);
  const uint64_t k = prims::wgmma_descriptor_k128(keys);
  const uint64_t v =
      prims::wgmma_descriptor(values, S::kHalfBytes, 1024, prims::WgmmaSwizzle::k128);
  const uint32_t my_turn = kTurnBarrier + consumer;
  const uint32_t other_turn = kTurnBarrier + 1 - consumer;
  constexpr uint32_t kTurnThreads = 128 * kConsumers;

  float s[kTileKeys / 2];
  uint32_t weights[kTileKeys / 16][4];
  for (int i = 0; i < job.num_tiles; ++i, ++count) {
    const int tile = job.num_tiles - 1 - i;
    const int stage = stage_of(count);
    const int value_stage = stage_of(count + kStages - 1);  // of the tile before
    prims::mbarrier_wait(&barriers.full_keys[stage], parity_of(count));
    prims::named_barrier_sync(my_turn, kTurnThreads);
    prims::wgmma_fence();
    issue_scores<kDim, kHalf>(s, q, prims::wgmma_advance(k, stage * S::kTileBytes));
    if (i > 0) {
      prims::mbarrier_wait(&barriers.full_values[value_stage], parity_of(count - 1));
      prims::wgmma_fence();
      issue_values<kDim, kHalf>(run.o, weights,
                                prims::wgmma_advance(v, value_stage * S::kTileBytes));
      prims::named_barrier_arrive(other_turn, kTurnThreads);
      prims::wgmma_wait<1>();
    } else {
      prims::named_barrier_arrive(other_turn, kTurnThreads);
      prims::wgmma_wait<0>();
    }
    prims::wgmma_pin(s);
    if (lane == 0) prims::mbarrier_arrive(&barriers.empty_keys[stage]);
    if ((tile + 1) * kTileKeys - 1 > job.first_position + consumer * 64) {
      mask_tile(s, tile * kTileKeys, position);
    }
    run.weigh(s, scale);
    prims::wgmma_wait<0>();
    prims::wgmma_pin(run.o);
    if (i > 0 && lane == 0) prims::mbarrier_arrive(&barriers.empty_values[value_stage]);
    run.rescale();
    pack_weights<kHalf>(weights, s);
  }
  --count;
  prims::mbarrier_wait(&barriers.full_values[stage_of(count)], parity_of(count));
  prims::wgmma_fence();
  issue_values<kDim, kHalf>(run.o, weights,
                            prims::wgmma_advance(v, stage_of(count) * S::kTileBytes));
}

template <int kDim, bool kHalf>
__device__ __forceinline__ void consume(const PrefillParams& p, const Jobs& jobs, int consumer,
                                        uint8_t* queries, const uint8_t* keys,
                                        const uint8_t* values, Barriers& barriers, float scale) {
  if (consumer == 1) prims::named_barrier_arrive(kTurnBarrier, 128 * kConsumers);  // 0 goes first
  const int first_row = consumer * 64 + threadIdx.x % 128 / 32 * 16;
  int idx = static_cast<int>(blockIdx.x);
  int count = 0;
  Job job;
  Queries<kDim, kHalf> next;
  bool is_there = jobs.next(job, p, idx);
  if (is_there) next.load(p, job, consumer);
  while (is_there) {
    next.store(queries, consumer);
    Running<kDim> run;
    attend<kDim, kHalf>(job, consumer, queries, keys, values, barriers, scale, count, run);
    const Job ended = job;
    is_there = jobs.next(job, p, idx);
    if (is_there) next.load(p, job, consumer);
    prims::wgmma_wait<0>();
    prims::wgmma_pin(run.o);
    if (threadIdx.x % 32 == 0) prims::mbarrier_arrive(&barriers.empty_values[stage_of(count)]);
    ++count;
    store_queries<kDim>(p, ended, ended.first_query + first_row, run);
  }
}

template <int kDim, bool kHalf>
__global__ void __launch_bounds__(kThreads, 1)
    prefill_sm90_kernel(const __grid_constant__ PrefillParams p, const Jobs jobs, float scale) {
  if (!kHasWgmma) {  // the rest of the body is then no code
    __trap();
    return;
  }
  using S = Shape<kDim>;
  extern __shared__ uint8_t unaligned[];
  __shared__ Barriers barriers;
  uint8_t* shared = unaligned + (1024 - prims::shared_address(unaligned) % 1024) % 1024;
  uint8_t* queries = shared;
  uint8_t* keys = queries + S::kTileBytes;
  uint8_t* values = keys + kStages * S::kTileBytes;
  if (threadIdx.x < 32 && prims::elect_one()) {
    for (int i = 0; i < kStages; ++i) {
      prims::mbarrier_init(&barriers.full_keys[i], 1);
      prims::mbarrier_init(&barriers.full_values[i], 1);
      prims::mbarrier_init(&barriers.empty_keys[i], 4 * kConsumers);
      prims::mbarrier_init(&barriers.empty_values[i], 4 * kConsumers);
    }
    prims::mbarrier_init_fence();
  }
  __syncthreads();
  const int warpgroup = threadIdx.x / 128;
  if (warpgroup == 0) {
    prims::registers_shrink<kProducerRegisters>();
    if (threadIdx.x >= 32) return;
    Job job;
    int count = 0;
    for (int idx = static_cast<int>(blockIdx.x); jobs.next(job, p, idx); count += job.num_tiles) {
      produce<kDim>(p, job, count, keys, values, barriers);
    }
  } else {
    prims::registers_grow<kConsumerRegisters>();
    consume<kDim, kHalf>(p, jobs, warpgroup - 1, queries, keys, values, barriers, scale);
  }
}

template <int kDim, bool kHalf>
cudaError_t launch(const PrefillParams& params, cudaStream_t stream) {
  constexpr double kLog2E = 1.4426950408889634074;
  constexpr double kRootDim = kDim == 64 ? 8.0 : 11.313708498984760390;
  const cudaError_t sized =
      cudaFuncSetAttribute(prefill_sm90_kernel<kDim, kHalf>,
                           cudaFuncAttributeMaxDynamicSharedMemorySize, Shape<kDim>::kSharedBytes);
  if (sized != cudaSuccess) return sized;
  constexpr int64_t kL2Bytes = 24 << 20;  // of 50 MiB, for K and V
  const int64_t seq_bytes = int64_t{params.max_query_len} * params.num_kv_heads *
                            (Shape<kDim>::Map::kHeadBytes / kPageRows);
  Jobs jobs;
  jobs.num_tiles = (params.max_query_len + kQueries - 1) / kQueries;
  jobs.group_size = static_cast<int>(std::clamp<int64_t>(kL2Bytes / seq_bytes, 1, params.num_seqs));
  const int num_groups = (params.num_seqs + jobs.group_size - 1) / jobs.group_size;
  jobs.num_jobs = num_groups * jobs.group_size * params.num_heads * jobs.num_tiles;
  const int num_ctas = std::min(jobs.num_jobs, device_attribute(cudaDevAttrMultiProcessorCount));
  prefill_sm90_kernel<kDim, kHalf><<<num_ctas, kThreads, Shape<kDim>::kSharedBytes, stream>>>(
      params, jobs, static_cast<float>(kLog2E / kRootDim));
  return cudaGetLastError();
}

}  // namespace
}  // namespace prefill_sm90

cudaError_t launch_prefill_sm90(const PrefillParams& params, int head_dim, cudaStream_t stream) {
  if (params.num_seqs == 0 || params.max_query_len == 0) return cudaSuccess;
  if (head_dim != 64 && head_dim != 128) return cudaErrorInvalidValue;
  using prefill_sm90::launch;
  if (params.is_half) {
    return head_dim == 64 ? launch<64, true>(params, stream) : launch<128, true>(params, stream);
  }
  return head_dim == 64 ? launch<64, false>(params, stream) : launch<128, false>(params, stream);
}

}  // namespace comet::kv
