// o = softmax(q · K^T / √d, causal) · V for chunks of queries over kv16 pages, by wgmma (sm_90a).
// Operands: q BF16 [tokens, heads, d]; kv16 pages of page_map.h; out BF16 [tokens, heads · d].
// Grid: as prefill.cu; a CTA takes 128 queries of one head. Warpgroup 0: one warp copies tiles of
// 128 keys (four pages) by bulk copies, K and V in rings of two; the pages lie as wgmma's 128-byte
// swizzle wants them. Warpgroups 1 and 2 have 64 queries each. Tiles pass from the last to the
// first, so that masks and rows that nobody wrote come at the start. Overlap: the scores of a tile
// are multiplied while the values of the one before are; the two warpgroups take turns in issuing,
// so that one's softmax runs under the other's products. Numerics: FP32 scores and softmax (base
// 2), P in BF16. Flops: 4 · d per query, head and visible key; batch 8 × 4,096, LLaMA-3-8B
// heads: 1.1 TFLOP, 1.1 ms at 989 TFLOP/s. Shared memory: 32 KB of Q, 64 KB each of K and V (d =
// 128).
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <type_traits>

#include "comet/device/cuda/prims/access.cuh"
#include "comet/device/cuda/prims/bulk_copy.cuh"
#include "comet/device/cuda/prims/control.cuh"
#include "comet/device/cuda/prims/mbarrier.cuh"
#include "comet/device/cuda/prims/wgmma.cuh"
#include "comet/device/cuda/prims/wgmma_bf16.cuh"
#include "comet/device/cuda/prims/wgmma_f16.cuh"
#include "comet/kv/cuda/prefill/prefill.h"

namespace comet::kv {
namespace {

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
constexpr bool kHasWgmma = true;
#else
constexpr bool kHasWgmma = false;
#endif
constexpr uint32_t kAllLanes = 0xFFFFFFFF;
constexpr int kConsumers = 2;  // warpgroups
constexpr int kThreads = 128 * (1 + kConsumers);
constexpr int kQueries = 64 * kConsumers;  // of a CTA
constexpr int kTilePages = 4;
constexpr int kTileKeys = kTilePages * kPageRows;
constexpr int kStages = 2;
constexpr int kProducerRegisters = 24;
constexpr int kConsumerRegisters = 240;
constexpr uint32_t kTurnBarrier = 1;  // and 2: whose turn to issue products
constexpr uint32_t kReadyBarrier = 3;

/// Rows of 64 dims (128 bytes): halves[c][row].
template <int kDim>
struct Shape {
  using Map = PageMap<PageFormat::kKv16, kDim>;
  static constexpr int kHalves = kDim / 64;
  static constexpr int kHalfBytes = kTileKeys * 128;  // of Q, and of K and V of a tile
  static constexpr int kTileBytes = kHalves * kHalfBytes;
  static constexpr int kPageHalfBytes = kPageRows * 128;
  static constexpr int kSharedBytes = (1 + 2 * kStages) * kTileBytes + 1024;  // to align
  static_assert(kQueries == kTileKeys);
};

struct Barriers {
  uint64_t full_keys[kStages];
  uint64_t full_values[kStages];
  uint64_t empty_keys[kStages];
  uint64_t empty_values[kStages];
};

struct Job {
  int head;
  int kv_head;
  int first_query;
  int num_queries;  // of the sequence
  int64_t first_row;
  int kv_len;
  int first_position;  // of first_query
  int num_tiles;
  const int32_t* table;
};

__device__ __forceinline__ bool find_job(Job& job, const PrefillParams& p) {
  const int num_tiles = (p.max_query_len + kQueries - 1) / kQueries;
  job.head = blockIdx.x % p.num_heads;
  job.kv_head = job.head / (p.num_heads / p.num_kv_heads);
  const int tile = num_tiles - 1 - blockIdx.x / p.num_heads % num_tiles;
  const int seq = blockIdx.x / (p.num_heads * num_tiles);
  job.first_row = p.cu_seqlens[seq];
  job.num_queries = p.cu_seqlens[seq + 1] - p.cu_seqlens[seq];
  job.first_query = tile * kQueries;
  if (job.first_query >= job.num_queries) return false;
  job.kv_len = p.kv_lens[seq];
  job.first_position = job.kv_len - job.num_queries + job.first_query;
  const int num_keys = min(job.kv_len, job.first_position + kQueries);
  job.num_tiles = (num_keys + kTileKeys - 1) / kTileKeys;
  job.table = p.block_tables + seq * p.block_table_stride;
  return true;
}

/// One elected lane, so that ptxas makes no loop over lanes of each copy: K or V (at `part` bytes
/// of a page's head) of a tile, of which num_rows rows are there.
template <int kDim>
__device__ __forceinline__ void copy_tile(uint8_t* target,
                                          const uint8_t* const (&sources)[kTilePages], int part,
                                          int num_rows, uint64_t* full) {
  using S = Shape<kDim>;
  prims::mbarrier_arrive_expect_tx(full, static_cast<uint32_t>(num_rows * 128 * S::kHalves));
#pragma unroll
  for (int page = 0; page < kTilePages; ++page) {
    const int page_rows = min(kPageRows, num_rows - page * kPageRows);
    if (page_rows <= 0) break;
#pragma unroll
    for (int half = 0; half < S::kHalves; ++half) {
      prims::bulk_load(target + half * S::kHalfBytes + page * S::kPageHalfBytes,
                       sources[page] + part + half * S::kPageHalfBytes,
                       static_cast<uint32_t>(page_rows) * 128, full);
    }
  }
}

/// One warp: tiles from the last to the first. Only rows below kv_len are copied.
template <int kDim>
__device__ __forceinline__ void produce(const PrefillParams& p, const Job& job, uint8_t* keys,
                                        uint8_t* values, Barriers& barriers) {
  using S = Shape<kDim>;
  const int lane = threadIdx.x % 32;
  const auto page_id_of = [&](int tile) {  // of the tile's page `lane`
    const int i = tile * kTilePages + lane;
    return lane < kTilePages && tile >= 0 && i * kPageRows < job.kv_len ? job.table[i] : 0;
  };
  int32_t page_id = page_id_of(job.num_tiles - 1);
  for (int i = 0; i < job.num_tiles; ++i) {
    const int tile = job.num_tiles - 1 - i;
    const int stage = i % kStages;
    const uint32_t parity = static_cast<uint32_t>(i / kStages & 1) ^ 1;
    const int32_t next_page_id = page_id_of(tile - 1);
    const int num_rows = min(kTileKeys, job.kv_len - tile * kTileKeys);
    const uint8_t* sources[kTilePages];
#pragma unroll
    for (int page = 0; page < kTilePages; ++page) {
      const int64_t id = __shfl_sync(kAllLanes, page_id, page);
      sources[page] = p.pages + (id * p.num_kv_heads + job.kv_head) * int64_t{S::Map::kHeadBytes};
    }
    prims::mbarrier_wait(&barriers.empty_keys[stage], parity);
    __syncwarp();
    if (prims::elect_one()) {
      copy_tile<kDim>(keys + stage * S::kTileBytes, sources, 0, num_rows,
                      &barriers.full_keys[stage]);
    }
    prims::mbarrier_wait(&barriers.empty_values[stage], parity);
    __syncwarp();
    if (prims::elect_one()) {
      copy_tile<kDim>(values + stage * S::kTileBytes, sources, S::Map::kPartBytes, num_rows,
                      &barriers.full_values[stage]);
    }
    page_id = next_page_id;
  }
}

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

/// All consumers: the CTA's queries to shared memory, rows that are not there as zeros; and zeros
/// behind kv_len in the values of the first tile, for 0 · NaN is NaN.
template <int kDim, bool kHalf>
__device__ __forceinline__ void fill_shared(const PrefillParams& p, const Job& job, int thread,
                                            uint8_t* queries, uint8_t* values) {
  using S = Shape<kDim>;
  constexpr int kChunks = kDim / 8;  // of 16 bytes in a row
  for (int i = thread; i < kQueries * kChunks; i += 128 * kConsumers) {
    const int row = i / kChunks;
    const int chunk = i % kChunks;
    uint4 v = {0, 0, 0, 0};
    if (job.first_query + row < job.num_queries) {
      const int64_t token = job.first_row + job.first_query + row;
      v = *reinterpret_cast<const uint4*>(p.q + (token * p.num_heads + job.head) * kDim +
                                          chunk * 8);
    }
    if constexpr (kHalf) {
      v = make_uint4(half_of_bf16(v.x), half_of_bf16(v.y), half_of_bf16(v.z), half_of_bf16(v.w));
    }
    *reinterpret_cast<uint4*>(queries + chunk / 8 * S::kHalfBytes +
                              prims::swizzle_128(row, chunk % 8 * 16)) = v;
  }
  const int first_empty = job.kv_len - (job.num_tiles - 1) * kTileKeys;
  for (int i = thread; i < (kTileKeys - first_empty) * 8 * S::kHalves; i += 128 * kConsumers) {
    const int half = i % S::kHalves;
    *reinterpret_cast<uint4*>(values + half * S::kHalfBytes + first_empty * 128 +
                              i / S::kHalves * 16) = make_uint4(0, 0, 0, 0);
  }
  prims::fence_proxy_async();
  prims::named_barrier_sync(kReadyBarrier, 128 * kConsumers);
}

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

template <int kDim, bool kHalf>
__device__ __forceinline__ void consume(const PrefillParams& p, const Job& job, int consumer,
                                        const uint8_t* queries, const uint8_t* keys,
                                        const uint8_t* values, Barriers& barriers, float scale) {
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
  if (consumer == 1) prims::named_barrier_arrive(kTurnBarrier, kTurnThreads);  // 0 goes first

  Running<kDim> run;
  float s[kTileKeys / 2];
  uint32_t weights[kTileKeys / 16][4];
  for (int i = 0; i < job.num_tiles; ++i) {
    const int tile = job.num_tiles - 1 - i;
    const int stage = i % kStages;
    const uint32_t parity = i / kStages & 1;
    const int value_stage = (i + kStages - 1) % kStages;  // of the tile before
    prims::mbarrier_wait(&barriers.full_keys[stage], parity);
    prims::named_barrier_sync(my_turn, kTurnThreads);
    prims::wgmma_fence();
    issue_scores<kDim, kHalf>(s, q, prims::wgmma_advance(k, stage * S::kTileBytes));
    if (i > 0) {
      prims::mbarrier_wait(&barriers.full_values[value_stage], (i - 1) / kStages & 1);
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
  const int last_stage = (job.num_tiles - 1) % kStages;
  prims::mbarrier_wait(&barriers.full_values[last_stage], (job.num_tiles - 1) / kStages & 1);
  prims::wgmma_fence();
  issue_values<kDim, kHalf>(run.o, weights, prims::wgmma_advance(v, last_stage * S::kTileBytes));
  prims::wgmma_wait<0>();
  prims::wgmma_pin(run.o);
  store_queries<kDim>(p, job, job.first_query + warp_row, run);
}

template <int kDim, bool kHalf>
__global__ void __launch_bounds__(kThreads, 1)
    prefill_sm90_kernel(const __grid_constant__ PrefillParams p, float scale) {
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
  Job job;
  if (!find_job(job, p)) return;
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
    if (threadIdx.x < 32) produce<kDim>(p, job, keys, values, barriers);
  } else {
    prims::registers_grow<kConsumerRegisters>();
    fill_shared<kDim, kHalf>(p, job, threadIdx.x - 128, queries, values);
    consume<kDim, kHalf>(p, job, warpgroup - 1, queries, keys, values, barriers, scale);
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
  const int num_tiles = (params.max_query_len + kQueries - 1) / kQueries;
  const auto num_ctas = static_cast<unsigned>(params.num_seqs * params.num_heads * num_tiles);
  prefill_sm90_kernel<kDim, kHalf><<<num_ctas, kThreads, Shape<kDim>::kSharedBytes, stream>>>(
      params, static_cast<float>(kLog2E / kRootDim));
  return cudaGetLastError();
}

}  // namespace

cudaError_t launch_prefill_sm90(const PrefillParams& params, int head_dim, cudaStream_t stream) {
  if (params.num_seqs == 0 || params.max_query_len == 0) return cudaSuccess;
  if (head_dim != 64 && head_dim != 128) return cudaErrorInvalidValue;
  if (params.is_half) {
    return head_dim == 64 ? launch<64, true>(params, stream) : launch<128, true>(params, stream);
  }
  return head_dim == 64 ? launch<64, false>(params, stream) : launch<128, false>(params, stream);
}

}  // namespace comet::kv
