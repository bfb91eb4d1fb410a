// o = softmax(q · K^T / √d, causal) · V for chunks of queries, by mma.sync: every KV format, sm_80
// and later (sm_90a has a faster kernel for kv16: prefill_sm90.cu).
// Operands: q BF16 [tokens, heads, d]; pages of page_map.h; out BF16 [tokens, heads · d].
// Grid: ⌈max_query_len / 128⌉ · heads · seqs, the last queries first (they see the most keys),
// heads of one KV head side by side. A CTA takes 128 queries of one head, a warp 16 of them; keys
// pass in tiles of two pages through a ring of three tiles filled by cp.async. kv8 and kv4 are
// expanded to FP16 in a tile of their own; kv16 is multiplied in BF16 as it lies. Numerics: FP32
// scores and softmax (base 2), P in the type of V. Flops: 4 · d per query, head and visible key;
// batch 8 × 4,096, LLaMA-3-8B heads: 1.1 TFLOP.
#include "comet/device/cuda/prims/access.cuh"
#include "comet/device/cuda/prims/cp_async.cuh"
#include "comet/device/cuda/prims/ldmatrix.cuh"
#include "comet/device/cuda/prims/mma.cuh"
#include "comet/kv/cuda/decode/decode_tile.cuh"
#include "comet/kv/cuda/prefill/dequant.cuh"
#include "comet/kv/cuda/prefill/prefill.h"

namespace comet::kv {
namespace {

constexpr uint32_t kAllLanes = 0xFFFFFFFF;
constexpr int kWarps = 8;
constexpr int kThreads = 32 * kWarps;
constexpr int kQueries = 16 * kWarps;  // of a CTA
constexpr int kTilePages = 2;
constexpr int kTileKeys = kTilePages * kPageRows;
constexpr int kStages = 3;

template <PageFormat kFormat_, int kDim_>
struct Shape {
  static constexpr PageFormat kFormat = kFormat_;
  static constexpr int kDim = kDim_;
  using Map = PageMap<kFormat, kDim>;
  using Wide = PageMap<PageFormat::kKv16, kDim>;
  static constexpr bool kCoded = kFormat != PageFormat::kKv16;
  static constexpr int kBlocks = kDim / 16;
  static constexpr int kStageBytes = kTilePages * Map::kHeadBytes;
  static constexpr int kWideBytes = kCoded ? kTilePages * Wide::kHeadBytes : 0;
  static constexpr int kSharedBytes = kStages * kStageBytes + kWideBytes;
  static_assert(kSharedBytes <= 99 * 1024);  // what sm_86 and sm_89 have
};

template <typename S>
__device__ __forceinline__ void multiply(float (&d)[4], const uint32_t (&a)[4],
                                         const uint32_t (&b)[2]) {
  if constexpr (S::kCoded) {
    prims::mma_m16n8k16_f16(d, a, b);
  } else {
    prims::mma_m16n8k16_bf16(d, a, b);
  }
}

template <typename S>
__device__ __forceinline__ uint32_t pack(float low, float high) {
  return S::kCoded ? pack_half(low, high) : pack_bf16(low, high);
}

/// Where a CTA works.
struct Job {
  int seq;
  int head;
  int first_query;  // in the sequence
  int num_queries;  // of the sequence
  int first_row;    // of the sequence in q and out
  int kv_len;
  int first_position;  // of first_query
};

__device__ __forceinline__ bool find_job(Job& job, const PrefillParams& p, int queries_per_cta) {
  const int num_tiles = (p.max_query_len + queries_per_cta - 1) / queries_per_cta;
  job.head = blockIdx.x % p.num_heads;
  const int tile = num_tiles - 1 - blockIdx.x / p.num_heads % num_tiles;
  job.seq = blockIdx.x / (p.num_heads * num_tiles);
  job.first_row = p.cu_seqlens[job.seq];
  job.num_queries = p.cu_seqlens[job.seq + 1] - job.first_row;
  job.first_query = tile * queries_per_cta;
  if (job.first_query >= job.num_queries) return false;
  job.kv_len = p.kv_lens[job.seq];
  job.first_position = job.kv_len - job.num_queries + job.first_query;
  return true;
}

/// Starts the copies of one tile. Rows of kv16 that nobody wrote become zeros, for 0 · NaN is NaN.
template <typename S>
__device__ __forceinline__ void load_tile(uint8_t* stage, const PrefillParams& p, const Job& job,
                                          int tile) {
  using Map = typename S::Map;
  const int32_t* table = p.block_tables + job.seq * p.block_table_stride;
  const int kv_head = job.head / (p.num_heads / p.num_kv_heads);
#pragma unroll
  for (int j = 0; j < kTilePages; ++j) {
    const int page = tile * kTilePages + j;
    const int num_rows = job.kv_len - page * kPageRows;
    const int64_t page_id = num_rows > 0 ? table[page] : 0;
    const uint8_t* source =
        p.pages + (page_id * p.num_kv_heads + kv_head) * int64_t{Map::kHeadBytes};
    uint8_t* target = stage + j * Map::kHeadBytes;
    for (int byte = threadIdx.x * 16; byte < Map::kHeadBytes; byte += kThreads * 16) {
      const int row = S::kCoded ? 0 : byte / 128 % kPageRows;
      prims::cp_async_16_or_zero(target + byte, source + byte, row < num_rows);
    }
  }
}

/// A warp's 16 queries as A fragments.
template <typename S>
__device__ __forceinline__ void load_queries(uint32_t (&q)[S::kBlocks][4], const PrefillParams& p,
                                             const Job& job, int first_query) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int query = first_query + lane / 4 + 8 * h;
    const bool is_there = query < job.num_queries;
    const auto* row = reinterpret_cast<const uint32_t*>(
        p.q + (static_cast<int64_t>(job.first_row + query) * p.num_heads + job.head) * S::kDim);
#pragma unroll
    for (int i = 0; i < S::kBlocks; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const uint32_t pair = is_there ? row[8 * i + 4 * half + lane % 4] : 0;
        q[i][2 * half + h] = S::kCoded ? pack_half(bf16_low(pair), bf16_high(pair)) : pair;
      }
    }
  }
}

/// Where the 16-byte chunk of a key's row lies in a tile of wide pages.
template <typename S>
__device__ __forceinline__ const uint8_t* chunk_at(const uint8_t* tile, int part, int key,
                                                   int chunk) {
  using Wide = typename S::Wide;
  return tile + key / kPageRows * Wide::kHeadBytes + part * Wide::kPartBytes +
         chunk / 8 * (kPageRows * 128) + key % kPageRows * 128 + ((chunk % 8 ^ key % 8) * 16);
}

template <typename S>
__device__ __forceinline__ void score_tile(float (&s)[kTileKeys / 8][4],
                                           const uint32_t (&q)[S::kBlocks][4],
                                           const uint8_t* tile) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int n = 0; n < kTileKeys / 8; n += 2) {
#pragma unroll
    for (int i = 0; i < 4; ++i) s[n][i] = s[n + 1][i] = 0.0F;
#pragma unroll
    for (int i = 0; i < S::kBlocks; ++i) {
      uint32_t k[4];
      const int key = 8 * n + lane % 8 + lane / 16 * 8;
      prims::ldmatrix_x4(k, chunk_at<S>(tile, 0, key, 2 * i + lane / 8 % 2));
      multiply<S>(s[n], q[i], {k[0], k[1]});
      multiply<S>(s[n + 1], q[i], {k[2], k[3]});
    }
  }
}

template <typename S>
__device__ __forceinline__ void add_values(float (&o)[2 * S::kBlocks][4],
                                           const float (&s)[kTileKeys / 8][4],
                                           const uint8_t* tile) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int j = 0; j < kTileKeys / 16; ++j) {
    const uint32_t a[4] = {pack<S>(s[2 * j][0], s[2 * j][1]), pack<S>(s[2 * j][2], s[2 * j][3]),
                           pack<S>(s[2 * j + 1][0], s[2 * j + 1][1]),
                           pack<S>(s[2 * j + 1][2], s[2 * j + 1][3])};
#pragma unroll
    for (int n = 0; n < S::kBlocks; ++n) {  // 16 dims
      uint32_t v[4];
      const int key = 16 * j + lane % 16;
      prims::ldmatrix_x4_trans(v, chunk_at<S>(tile, 1, key, 2 * n + lane / 16));
      multiply<S>(o[2 * n], a, {v[0], v[1]});
      multiply<S>(o[2 * n + 1], a, {v[2], v[3]});
    }
  }
}

/// Scores become weights; h = 0, 1: the lane's rows g and g + 8 of the warp's 16.
template <int kBlocks>
struct Softmax {
  float max[2] = {-INFINITY, -INFINITY};
  float sum[2] = {};

  __device__ __forceinline__ void step(float (&s)[kTileKeys / 8][4], float (&o)[kBlocks][4],
                                       float scale) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float high = max[h];
#pragma unroll
      for (int n = 0; n < kTileKeys / 8; ++n)
        high = fmaxf(high, fmaxf(s[n][2 * h], s[n][2 * h + 1]));
      high = fmaxf(high, __shfl_xor_sync(kAllLanes, high, 1));
      high = fmaxf(high, __shfl_xor_sync(kAllLanes, high, 2));
      const float factor = prims::exp2_approx((max[h] - high) * scale);
      max[h] = high;
      sum[h] *= factor;
#pragma unroll
      for (int n = 0; n < kBlocks; ++n) {
        o[n][2 * h] *= factor;
        o[n][2 * h + 1] *= factor;
      }
      const float shift = -high * scale;
#pragma unroll
      for (int n = 0; n < kTileKeys / 8; ++n) {
#pragma unroll
        for (int e = 2 * h; e < 2 * h + 2; ++e) {
          s[n][e] = prims::exp2_approx(fmaf(s[n][e], scale, shift));
          sum[h] += s[n][e];
        }
      }
    }
  }
};

/// Keys behind a query's position count nothing.
__device__ __forceinline__ void mask_tile(float (&s)[kTileKeys / 8][4], int first_key,
                                          int first_position) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int n = 0; n < kTileKeys / 8; ++n) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int key = first_key + 8 * n + lane % 4 * 2 + e % 2;
      const int position = first_position + lane / 4 + e / 2 * 8;
      if (key > position) s[n][e] = -INFINITY;
    }
  }
}

template <typename S>
__device__ __forceinline__ void store_queries(const PrefillParams& p, const Job& job,
                                              int first_query, float (&o)[2 * S::kBlocks][4],
                                              float (&sum)[2]) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    sum[h] += __shfl_xor_sync(kAllLanes, sum[h], 1);
    sum[h] += __shfl_xor_sync(kAllLanes, sum[h], 2);
    const float inverse = 1.0F / sum[h];
    const int query = first_query + lane / 4 + 8 * h;
    if (query >= job.num_queries) continue;
    uint16_t* row = p.out + (job.first_row + query) * p.out_stride + job.head * S::kDim;
#pragma unroll
    for (int n = 0; n < 2 * S::kBlocks; ++n) {
      *reinterpret_cast<uint32_t*>(row + 8 * n + lane % 4 * 2) =
          pack_bf16(o[n][2 * h] * inverse, o[n][2 * h + 1] * inverse);
    }
  }
}

template <typename S>
__global__ void __launch_bounds__(kThreads, 1)
    prefill_kernel(const __grid_constant__ PrefillParams p, float scale) {
  extern __shared__ __align__(128) uint8_t shared[];
  uint8_t* wide = shared + kStages * S::kStageBytes;
  Job job;
  if (!find_job(job, p, kQueries)) return;
  const int warp = threadIdx.x / 32;
  const int first_query = job.first_query + 16 * warp;  // of this warp
  const int first_position = job.first_position + 16 * warp;
  const int num_keys = min(job.kv_len, job.first_position + kQueries);
  const int num_tiles = (num_keys + kTileKeys - 1) / kTileKeys;

  for (int i = 0; i < kStages - 1; ++i) {
    if (i < num_tiles) load_tile<S>(shared + i * S::kStageBytes, p, job, i);
    prims::cp_async_commit();
  }
  uint32_t q[S::kBlocks][4];
  load_queries<S>(q, p, job, first_query);
  float o[2 * S::kBlocks][4] = {};
  Softmax<2 * S::kBlocks> softmax;

  for (int tile = 0; tile < num_tiles; ++tile) {
    prims::cp_async_wait<kStages - 2>();
    __syncthreads();  // the tile is there; the one before it (and `wide`) is read
    const uint8_t* stage = shared + tile % kStages * S::kStageBytes;
    if constexpr (S::kCoded) {
      for (int j = 0; j < kTilePages; ++j) {
        expand_page<S::kFormat, S::kDim>(
            wide + j * S::Wide::kHeadBytes, stage + j * S::Map::kHeadBytes,
            job.kv_len - (tile * kTilePages + j) * kPageRows, threadIdx.x, kThreads);
      }
      __syncthreads();
      stage = wide;
    }
    const int next = tile + kStages - 1;
    if (next < num_tiles) {
      load_tile<S>(shared + next % kStages * S::kStageBytes, p, job, next);
    }
    prims::cp_async_commit();
    if (tile * kTileKeys > first_position + 15) continue;  // nothing for this warp's queries
    float s[kTileKeys / 8][4];
    score_tile<S>(s, q, stage);
    if ((tile + 1) * kTileKeys - 1 > first_position) mask_tile(s, tile * kTileKeys, first_position);
    softmax.step(s, o, scale);
    add_values<S>(o, s, stage);
  }
  store_queries<S>(p, job, first_query, o, softmax.sum);
}

template <PageFormat kFormat, int kDim>
cudaError_t launch(const PrefillParams& params, cudaStream_t stream) {
  using S = Shape<kFormat, kDim>;
  constexpr double kLog2E = 1.4426950408889634074;
  constexpr double kRootDim = kDim == 64 ? 8.0 : 11.313708498984760390;
  const cudaError_t sized = cudaFuncSetAttribute(
      prefill_kernel<S>, cudaFuncAttributeMaxDynamicSharedMemorySize, S::kSharedBytes);
  if (sized != cudaSuccess) return sized;
  const int num_tiles = (params.max_query_len + kQueries - 1) / kQueries;
  const auto num_ctas = static_cast<unsigned>(params.num_seqs * params.num_heads * num_tiles);
  prefill_kernel<S><<<num_ctas, kThreads, S::kSharedBytes, stream>>>(
      params, static_cast<float>(kLog2E / kRootDim));
  return cudaGetLastError();
}

template <int kDim>
cudaError_t launch_of(const PrefillParams& params, PageFormat format, cudaStream_t stream) {
  if (format == PageFormat::kKv16) return launch<PageFormat::kKv16, kDim>(params, stream);
  if (format == PageFormat::kKv8) return launch<PageFormat::kKv8, kDim>(params, stream);
  return launch<PageFormat::kKv4, kDim>(params, stream);
}

}  // namespace

cudaError_t launch_prefill(const PrefillParams& params, PageFormat format, int head_dim,
                           cudaStream_t stream) {
  if (params.num_seqs == 0 || params.max_query_len == 0) return cudaSuccess;
  if (head_dim == 64) return launch_of<64>(params, format, stream);
  if (head_dim == 128) return launch_of<128>(params, format, stream);
  return cudaErrorInvalidValue;
}

}  // namespace comet::kv
