// Sizes of decode's CTAs, and the ring through which a warp's pages of the cache come to shared
// memory. Included by decode_attend.cuh.
#pragma once

#include "comet/device/cuda/prims/bulk_copy.cuh"
#include "comet/device/cuda/prims/control.cuh"
#include "comet/device/cuda/prims/cp_async.cuh"
#include "comet/device/cuda/prims/mbarrier.cuh"
#include "comet/device/cuda/tensor_map.h"
#include "comet/kv/cuda/decode/decode.h"
#include "comet/kv/cuda/decode/decode_tile.cuh"
#include "comet/kv/cuda/lanes.cuh"

namespace comet::kv {

constexpr int kHeadsPerPass = 8;  // the N side of the products
// Of a CTA where there are few (kv4). Sixteen would need all registers of an SM, so that the CTA
// could not start beside the product ahead.
constexpr int kManyWarps = 8;

template <PageFormat kPageFormat, int kHeadDim, bool kHasManyWarps = false>
struct Shape {
  static constexpr PageFormat kFormat = kPageFormat;
  static constexpr int kDim = kHeadDim;
  static constexpr bool kIsWide = kHasManyWarps;
  using Tile = DecodeTile<kFormat, kDim>;
  using Map = PageMap<kFormat, kDim>;
  static constexpr int kWarps = kIsWide ? kManyWarps : Map::kHeadBytes >= 16384 ? 2 : 4;
  static constexpr int kStages = kIsWide ? 2 : 3;
  static constexpr int kCtasPerSm = kIsWide ? 1 : Map::kHeadBytes >= 8192 ? 2 : 4;
  static constexpr int kThreads = 32 * kWarps;
  static constexpr int kRingBytes = kStages * Map::kHeadBytes;  // of a warp
  static constexpr int kSharedBytes = kWarps * kRingBytes;
  static constexpr int kMergeStride = kDim + 4;  // floats of a head's sums, off by four banks
  static_assert(kWarps * kHeadsPerPass * kMergeStride * 4 <= kSharedBytes);
};

struct KernelParams {
  DecodeParams p;
  int pages_per_split;
  int num_passes;          // of eight heads
  float scale;             // log2 e / √d
  CUtensorMap page_map{};  // of heads' blocks, for bulk_copies
};

/// What copies of the warp's pages need, before there are pages; all threads. A warp uses its own
/// barriers alone, but racecheck does not always see the __syncwarp that would do.
template <typename S>
__device__ __forceinline__ void prepare_ring(const KernelParams& kp, uint64_t* barriers) {
  if (kp.p.bulk_copies && prims::elect_one()) {
    prims::tensor_map_prefetch(&kp.page_map);
#pragma unroll
    for (int i = 0; i < S::kStages; ++i) prims::mbarrier_init(barriers + i, 1);
    prims::mbarrier_init_fence();
  }
  __syncthreads();
}

/// The pages of one warp: every kWarps-th of the CTA's, through a ring of shared memory.
template <typename S>
struct PageRing {
  using Map = typename S::Map;
  const KernelParams& kp;
  const int32_t* table;  // of this warp's first page
  uint8_t* ring;
  uint64_t* barriers;  // [kStages]
  int kv_head;
  int num_pages;     // of this warp
  int32_t page_ids;  // lane l: of page num_issued / 32 · 32 + l
  int num_issued = 0;
  int issue_stage = 0;
  int wait_stage = 0;
  uint32_t wait_parity = 0;

  /// How many of the first kStages pages are settled before the kernel ahead ends: all but the last
  /// of the sequence, whose distance from this warp's first page is given.
  __device__ __forceinline__ int num_early(int last_page) const {
    if (!kp.p.old_pages_settled) return 0;
    const bool has_last = (num_pages - 1) * S::kWarps == last_page;
    return max(0, min(num_pages - (has_last ? 1 : 0), S::kStages));
  }

  /// Copies begin … end of the first kStages.
  __device__ __forceinline__ void start(int begin, int end) {
    for (int i = begin; i < end; ++i) issue();
  }

  /// Starts the next page's copy, if there is one. The stage's last reader is behind a __syncwarp.
  __device__ __forceinline__ void issue() {
    const int lane = threadIdx.x % 32;
    if (num_issued < num_pages) {
      if (num_issued % 32 == 0 && num_issued > 0) {
        const int page = num_issued + lane;
        page_ids = page < num_pages ? table[page * S::kWarps] : 0;
      }
      const int64_t page_id = __shfl_sync(kAllLanes, page_ids, num_issued % 32);
      const int64_t block = page_id * kp.p.num_kv_heads + kv_head;
      uint8_t* target = ring + issue_stage * Map::kHeadBytes;
      if (kp.p.bulk_copies) {
        if (prims::elect_one()) {  // no loop over lanes of the copy, as `lane == 0` would have
          prims::mbarrier_arrive_expect_tx(barriers + issue_stage, Map::kHeadBytes);
          prims::tensor_load_2d(target, &kp.page_map, 0,
                                static_cast<int>(block) * (Map::kHeadBytes / kMapRowBytes),
                                barriers + issue_stage);
        }
      } else {
        const uint8_t* source = kp.p.pages + block * Map::kHeadBytes;
#pragma unroll 4
        for (int byte = lane * 16; byte < Map::kHeadBytes; byte += 512) {
          prims::cp_async_16(target + byte, source + byte);
        }
      }
    }
    if (!kp.p.bulk_copies) prims::cp_async_commit();  // empty groups keep the count
    ++num_issued;
    issue_stage = issue_stage + 1 == S::kStages ? 0 : issue_stage + 1;
  }

  /// The oldest page, once it is there.
  __device__ __forceinline__ uint8_t* wait() {
    if (kp.p.bulk_copies) {
      prims::mbarrier_wait(barriers + wait_stage, wait_parity);
    } else {
      prims::cp_async_wait<S::kStages - 1>();
    }
    __syncwarp();
    uint8_t* page = ring + wait_stage * Map::kHeadBytes;
    if (++wait_stage == S::kStages) {
      wait_stage = 0;
      wait_parity ^= 1;
    }
    return page;
  }
};

}  // namespace comet::kv
