// prefill_sm90.cu's jobs, and the warp that copies their keys and values: tiles of 128 keys by bulk
// copies into rings of two that go on from job to job.
#pragma once

#include "comet/device/cuda/prims/bulk_copy.cuh"
#include "comet/device/cuda/prims/control.cuh"
#include "comet/device/cuda/prims/mbarrier.cuh"
#include "comet/kv/cuda/lanes.cuh"
#include "comet/kv/cuda/prefill/prefill.h"

namespace comet::kv::prefill_sm90 {

constexpr int kConsumers = 2;  // warpgroups
constexpr int kThreads = 128 * (1 + kConsumers);
constexpr int kQueries = 64 * kConsumers;  // of a CTA
constexpr int kTilePages = 4;
constexpr int kTileKeys = kTilePages * kPageRows;
constexpr int kStages = 2;

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

/// Jobs in the order in which CTAs take them: sequences in groups, of which L2 holds K and V of as
/// many tokens as they have queries; within a group the last queries of all first. Where a sequence
/// is shorter than others jobs are empty.
struct Jobs {
  int num_tiles;   // of queries, of the longest sequence
  int group_size;  // sequences
  int num_jobs;

  __device__ __forceinline__ bool find(Job& job, const PrefillParams& p, int idx) const {
    const int seqs_and_heads = group_size * p.num_heads;
    const int of_group = idx % (num_tiles * seqs_and_heads);
    const int seq =
        idx / (num_tiles * seqs_and_heads) * group_size + of_group % seqs_and_heads / p.num_heads;
    if (seq >= p.num_seqs) return false;
    job.head = of_group % p.num_heads;
    job.kv_head = job.head / (p.num_heads / p.num_kv_heads);
    job.first_query = (num_tiles - 1 - of_group / seqs_and_heads) * kQueries;
    job.first_row = p.cu_seqlens[seq];
    job.num_queries = p.cu_seqlens[seq + 1] - p.cu_seqlens[seq];
    if (job.first_query >= job.num_queries) return false;
    job.kv_len = p.kv_lens[seq];
    job.first_position = job.kv_len - job.num_queries + job.first_query;
    const int num_keys = min(job.kv_len, job.first_position + kQueries);
    job.num_tiles = (num_keys + kTileKeys - 1) / kTileKeys;
    job.table = p.block_tables + seq * p.block_table_stride;
    return true;
  }

  /// The first of this CTA's from idx on that is not empty; idx is then its successor's.
  __device__ __forceinline__ bool next(Job& job, const PrefillParams& p, int& idx) const {
    while (idx < num_jobs) {
      const bool is_found = find(job, p, idx);
      idx += static_cast<int>(gridDim.x);
      if (is_found) return true;
    }
    return false;
  }
};

/// Of a CTA's count-th tile of K or V.
__device__ __forceinline__ int stage_of(int count) { return count % kStages; }
__device__ __forceinline__ uint32_t parity_of(int count) {
  return static_cast<uint32_t>(count / kStages & 1);
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

/// One warp: 0 in the rows of a tile that no copy fills, for 0 · NaN is NaN.
template <int kDim>
__device__ __forceinline__ void clear_behind(uint8_t* tile, int num_rows) {
  using S = Shape<kDim>;
  for (int i = static_cast<int>(threadIdx.x % 32); i < (kTileKeys - num_rows) * 8 * S::kHalves;
       i += 32) {
    *reinterpret_cast<uint4*>(tile + i % S::kHalves * S::kHalfBytes + num_rows * 128 +
                              i / S::kHalves * 16) = make_uint4(0, 0, 0, 0);
  }
  prims::fence_proxy_async();
}

/// One warp: a job's tiles from the last to the first, the CTA's count-th and following. Only rows
/// below kv_len are copied.
template <int kDim>
__device__ __forceinline__ void produce(const PrefillParams& p, const Job& job, int count,
                                        uint8_t* keys, uint8_t* values, Barriers& barriers) {
  using S = Shape<kDim>;
  const int lane = threadIdx.x % 32;
  const auto page_id_of = [&](int tile) {  // of the tile's page `lane`
    const int i = tile * kTilePages + lane;
    return lane < kTilePages && tile >= 0 && i * kPageRows < job.kv_len ? job.table[i] : 0;
  };
  int32_t page_id = page_id_of(job.num_tiles - 1);
  for (int tile = job.num_tiles - 1; tile >= 0; --tile, ++count) {
    const int stage = stage_of(count);
    const uint32_t parity = parity_of(count) ^ 1;
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
    if (num_rows < kTileKeys) clear_behind<kDim>(values + stage * S::kTileBytes, num_rows);
    __syncwarp();
    if (prims::elect_one()) {
      copy_tile<kDim>(values + stage * S::kTileBytes, sources, S::Map::kPartBytes, num_rows,
                      &barriers.full_values[stage]);
    }
    page_id = next_page_id;
  }
}

}  // namespace comet::kv::prefill_sm90
