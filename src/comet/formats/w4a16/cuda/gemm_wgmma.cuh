// y [tokens, n] = x [tokens, k] · Wᵀ + bias; W 4-bit with a scale per group; sm_90a.
//
// Operands: W as blocks of 128 rows × 128 channels (gemm.h), A operand of wgmma from registers
// (swapped product: rows of W are M, tokens are N). x: BF16, tensor map with boxes of
// kTokens × 64 channels, 128-byte swizzle, B operand from shared memory. out: BF16 or FP32.
// Grid: num_splits × tiles of (kRows, kTokens), in the order of tile_of(); the CTAs of a cluster
// share a tile and split its channels. Shapes of CTAs: TileShape in gemm.h.
// Roles: pairs of consumer warpgroups (gemm_wgmma_consumer.cuh); one lane of another warp issues
// copies: a ring of blocks of weights (evict-first where each is read once) and a shorter one of
// inputs, which come from L2.
// Start: the launch overlaps the end of the kernel before (programmatic dependent launch); weights
// are read at once, inputs when that kernel has ended; nothing is written before all inputs came.
// End: gemm_wgmma_store.cuh.
//
// Floor (bytes): gate_up of LLaMA-3-8B, 28672 × 4096, is 60.6 MB: 14.1 µs at 4.3 TB/s. Operations:
// 64 tokens 15 GFLOP = 15 µs at the data sheet's 989 TFLOP/s, so from 64 tokens on products decide.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "comet/device/cuda/prims/bulk_copy.cuh"
#include "comet/device/cuda/prims/control.cuh"
#include "comet/device/cuda/prims/mbarrier.cuh"
#include "comet/device/cuda/tensor_map.h"
#include "comet/formats/w4a16/cuda/gemm_tile.cuh"

namespace comet::formats::w4a16_cuda::wgmma {

constexpr int kMaxStages = 20;        // of weights
constexpr int kMaxInputStages = 6;    // of inputs
constexpr int kTileAlignment = 1024;  // of swizzled boxes
constexpr int kControlBytes = 512;    // barriers and Work
constexpr int kBoxChannels = 64;      // 128 bytes
constexpr int kScaledBlockBytes = kWordBytes + kBlockRows * 2;

struct Params {
  GemmArgs args;
  int32_t num_splits;
  int32_t num_row_tiles;
  int32_t num_token_tiles;
  int32_t num_stages;   // of weights; of one ring kInputStages
  int32_t stage_bytes;  // of a stage of weights
};

/// How scales meet the products.
enum class Form {
  kScaled,       // a BF16 scale per 128 channels, no zero points: weights are BF16(scale · code)
  kGroups,       // 128 channels: integers are multiplied exactly, the sums of a group scaled
  kShortGroups,  // the same of 32 channels
};

template <int kTokens_, Form kForm_, TileShape kShape_>
struct Traits {
  static constexpr int kTokens = kTokens_;
  static constexpr Form kForm = kForm_;
  static constexpr int kGroups = kForm == Form::kShortGroups ? 4 : 1;  // of a block
  static constexpr TileShape kShape = kShape_;
  static constexpr bool kIsTall = kShape == TileShape::kTall;
  static constexpr int kRowBlocks = kIsTall ? 2 : 1;  // of a stage
  static constexpr int kRows = kRowBlocks * kBlockRows;
  // Pairs of warpgroups: each has a block of a tall stage, or blocks in turn.
  static constexpr int kPairs = kShape == TileShape::kHalf || kTokens == 128 ? 1 : 2;
  static constexpr int kTurns = kIsTall ? 1 : kPairs;        // pairs that take stages in turn
  static constexpr int kWarpsOfStage = 8 * kPairs / kTurns;  // that read it
  static constexpr int kConsumers = 256 * kPairs;
  static constexpr int kCtasPerSm = kShape == TileShape::kHalf ? 2 : 1;
  // Two sets of sums, where registers allow: the next products start before the last are added.
  static constexpr bool kTwoSums = kTokens <= 16 && kForm != Form::kScaled;
  // Registers of a consumer where those of a launch are too few: then a whole warpgroup issues
  // copies, which gives most of its own away (80, 96 and 168 at launch). 0: as launched.
  static constexpr int kConsumerRegisters = kTokens == 128    ? 240
                                            : kTokens < 64    ? 0
                                            : kCtasPerSm == 2 ? 104
                                                              : 112;
  static constexpr int kThreads = kConsumers + (kConsumerRegisters == 0 ? 32 : 128);

  // Fragments of a batch: two for 64 tokens where two sets of sums leave no registers for more.
  static constexpr int kBatch = kTokens == 64 && kForm != Form::kScaled ? 2 : 4;
  static constexpr int kBatches = 8 / kBatch;
  static constexpr int kSums = kTokens / 2;  // of a thread and 64 rows

  static constexpr int kBoxBytes = kTokens * 128;
  static constexpr int kInputBytes = 2 * kBoxBytes;
  // Inputs of a tall tile come with the weights: one ring, one barrier a stage.
  static constexpr bool kOneRing = kIsTall;
  static constexpr int kStageBytes = 2 * kScaledBlockBytes;  // of weights
  static constexpr int kRingStages =
      (227 * 1024 - kTileAlignment - kControlBytes) / (kStageBytes + kInputBytes);
  static constexpr int kInputStages = kOneRing                           ? kRingStages
                                      : kTokens == 128                   ? 5
                                      : kTokens <= 16 || kCtasPerSm == 1 ? 6
                                      : kTokens == 64                    ? 3
                                                                         : 4;
  static constexpr int kTilePitch = kRows + kTilePadding;
  static constexpr int kTileFloats = kTokens * kTilePitch;  // of a turn
  static constexpr int kSharedBytes = (kCtasPerSm == 2 ? 113 : 227) * 1024;
  static constexpr int kRoom =
      kSharedBytes - kTileAlignment - kControlBytes - kInputStages * kInputBytes;  // for weights
  static_assert(!kIsTall || (kForm == Form::kScaled && kRingStages <= kMaxStages));
  static_assert(kBoxBytes % kTileAlignment == 0, "boxes follow each other");
  static_assert(kTurns * kTileFloats * 4 <= kSharedBytes - kTileAlignment - kControlBytes);
  static_assert(kOneRing || (kInputStages <= kMaxInputStages && kInputStages > kTurns));
  static_assert(!kTwoSums || kBatches == 2);
};

/// What a CTA does; in shared memory, so that no one keeps it in registers.
struct Work {
  TileIndex tile;
  int rank;  // in the cluster
  int k_begin;
  int k_end;
};
static_assert((2 * kMaxStages + 1 + kMaxInputStages) * sizeof(uint64_t) + sizeof(Work) <=
              kControlBytes);

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

template <class T>
__device__ __forceinline__ void take_registers(bool is_consumer) {
  if constexpr (T::kConsumerRegisters > 0) {
    if (is_consumer) {
      prims::registers_grow<T::kConsumerRegisters>();
    } else {
      prims::registers_shrink<24>();
    }
  }
}

/// Inputs by stages, then weights by stages, then barriers.
template <class T>
struct Shared {
  uint8_t* inputs;
  uint8_t* weights;
  uint64_t* full_weights;
  uint64_t* empty;  // of weights, and so of inputs; one more that no one waits for
  uint64_t* full_inputs;
  Work* work;

  __device__ __forceinline__ Shared(uint8_t* raw, const Params& p) {
    const uint32_t address = prims::shared_address(raw);
    inputs = raw + ((kTileAlignment - address % kTileAlignment) % kTileAlignment);
    weights = inputs + T::kInputStages * T::kInputBytes;
    full_weights =
        reinterpret_cast<uint64_t*>(inputs + T::kSharedBytes - kTileAlignment - kControlBytes);
    empty = full_weights + kMaxStages;
    full_inputs = empty + kMaxStages + 1;
    work = reinterpret_cast<Work*>(full_inputs + kMaxInputStages);
  }
  /// One thread.
  __device__ __forceinline__ void init_barriers(int num_stages) const {
    for (int i = 0; i < num_stages; ++i) {
      prims::mbarrier_init(full_weights + i, 1);
      prims::mbarrier_init(empty + i, T::kWarpsOfStage);
    }
    prims::mbarrier_init(empty + kMaxStages, T::kWarpsOfStage);
#pragma unroll
    for (int i = 0; !T::kOneRing && i < T::kInputStages; ++i) {
      prims::mbarrier_init(full_inputs + i, 1);
    }
    prims::mbarrier_init_fence();
  }
};

__device__ __forceinline__ Work work_of(const Params& p, int cta) {
  Work work;
  work.rank = cta % p.num_splits;
  work.tile = tile_of(cta / p.num_splits, p.num_row_tiles, p.num_token_tiles);
  work.k_begin = p.args.blocks.num_k_blocks * work.rank / p.num_splits;
  work.k_end = p.args.blocks.num_k_blocks * (work.rank + 1) / p.num_splits;
  return work;
}

/// Position in a ring of stages, and the parity of its turn.
struct StageIndex {
  int stage = 0;
  uint32_t parity = 0;
  __device__ __forceinline__ void advance(int step, int num_stages) {
    stage += step;
    if (stage >= num_stages) {
      stage -= num_stages;
      parity ^= 1;
    }
  }
};

/// The one thread that issues copies. Blocks count from the CTA's first.
template <class T>
struct Loader {
  const Params& p;
  const CUtensorMap* w_map;
  const CUtensorMap* x_map;
  const Shared<T>& shared;
  const Work work;

  __device__ __forceinline__ void load_weights(int stage, int block) const {
    const Blocks& blocks = p.args.blocks;
    const int block_bytes = blocks.block_bytes();
    const uint64_t policy = p.num_token_tiles == 1 ? prims::kEvictFirst : prims::kEvictNormal;
    uint8_t* to = shared.weights + stage * p.stage_bytes;
    uint64_t* full = shared.full_weights + stage;
    prims::mbarrier_arrive_expect_tx(full, p.stage_bytes);
    const int from = work.tile.row_tile * blocks.num_k_blocks + work.k_begin + block;
    prims::tensor_load_2d_hint(to, w_map, 0, from * (block_bytes / kMapRowBytes), full, policy);
  }

  __device__ __forceinline__ void load_inputs(int stage, int block) const {
    uint64_t* full = shared.full_inputs + stage;
    prims::mbarrier_arrive_expect_tx(full, T::kInputBytes);
#pragma unroll
    for (int box = 0; box < 2; ++box) {
      prims::tensor_load_2d_hint(shared.inputs + stage * T::kInputBytes + box * T::kBoxBytes, x_map,
                                 (work.k_begin + block) * kBlockChannels + box * kBoxChannels,
                                 work.tile.token_tile * T::kTokens, full, prims::kEvictLast);
    }
  }

  /// Weights of all stages are on their way while the kernel before this one still runs.
  __device__ __forceinline__ void start() const {
    prims::tensor_map_prefetch(w_map);
    prims::tensor_map_prefetch(x_map);
    const int num_early = min(p.num_stages, work.k_end - work.k_begin);
    for (int i = 0; i < num_early; ++i) load_weights(i, i);
  }

  __device__ __forceinline__ void run() const {
    const int num_blocks = work.k_end - work.k_begin;
    prims::wait_for_previous_kernel();
    const int num_early = min(T::kInputStages, num_blocks);
    for (int i = 0; i < num_early; ++i) load_inputs(i, i);
    StageIndex at;
    int input_stage = 0;
    for (int i = 0; i + T::kInputStages < num_blocks; ++i) {
      prims::mbarrier_wait(shared.empty + at.stage, at.parity);  // block i is through
      load_inputs(input_stage, i + T::kInputStages);
      if (i + p.num_stages < num_blocks) load_weights(at.stage, i + p.num_stages);
      at.advance(1, p.num_stages);
      if (++input_stage == T::kInputStages) input_stage = 0;
    }
  }
};

#endif

}  // namespace comet::formats::w4a16_cuda::wgmma
