// y [tokens, n] = x [tokens, k] · Wᵀ + bias; W 4-bit with a scale per group; sm_90a.
//
// Operands: W as blocks of 128 rows × 128 channels (gemm.h), A operand of wgmma from registers
// (swapped product: rows of W are M, tokens are N). x: BF16, tensor map with boxes of
// kTokens × 64 channels, 128-byte swizzle, B operand from shared memory. out: BF16 or FP32.
// Grid: num_splits × tiles of (kRows, kTokens), in the order of tile_of(); the CTAs of a cluster
// share a tile and split its channels. Weights: 64 rows per consumer warpgroup, 128 rows a tile and
// two CTAs an SM for up to 32 tokens, 256 rows for 64, 128 rows for more.
// Roles: the consumer warpgroups; then one of which one lane issues copies, up to 12 stages of 128
// channels ahead: copies of whole blocks (evict-first where each is read once), tensor
// copies of inputs.
// A stage in a consumer: wait, nibbles → 8 fragments of exact integers, 8 products into zeroed
// sums, release, then total += scale · sums (FP32, one fma per group): products of an integer and
// a BF16 value are exact, so the result is that of FP32 sums.
// Start: the launch overlaps the end of the kernel before (programmatic dependent launch); weights
// are read at once, inputs when that kernel has ended; nothing is written before all inputs came.
// End: sums through shared memory, those of the cluster added in the order of their ranks, so that
// results do not depend on timing; bias; stores of whole rows of tokens.
//
// Floor (bytes): gate_up of LLaMA-3-8B, 28672 × 4096, is 60.6 MB: 14.1 µs at 4.3 TB/s. Operations:
// 64 tokens 15 GFLOP = 15 µs at the data sheet's 989 TFLOP/s, so from 64 tokens on products decide.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "comet/device/cuda/prims/bulk_copy.cuh"
#include "comet/device/cuda/prims/cluster.cuh"
#include "comet/device/cuda/prims/control.cuh"
#include "comet/device/cuda/prims/mbarrier.cuh"
#include "comet/device/cuda/prims/wgmma.cuh"
#include "comet/device/cuda/prims/wgmma_bf16.cuh"
#include "comet/device/cuda/tensor_map.h"
#include "comet/formats/w4a16/cuda/gemm_tile.cuh"

namespace comet::formats::w4a16_cuda::wgmma {

constexpr int kMaxStages = 12;
constexpr int kTileAlignment = 1024;  // of swizzled boxes
constexpr int kControlBytes = 256;    // barriers and Work
constexpr int kBoxChannels = 64;      // 128 bytes

struct Params {
  GemmArgs args;
  int32_t num_splits;
  int32_t num_row_tiles;
  int32_t num_token_tiles;
  int32_t num_stages;
  int32_t stage_bytes;
};

template <int kTokens_, int kGroups_>
struct Traits {
  static constexpr int kTokens = kTokens_;
  static constexpr int kGroups = kGroups_;  // of a block
  static constexpr int kWarpgroups = kTokens == 64 ? 4 : 2;
  static constexpr int kRows = 64 * kWarpgroups;
  static constexpr int kRowBlocks = kRows / kBlockRows;
  static constexpr int kConsumers = 128 * kWarpgroups;
  static constexpr int kThreads = kConsumers + 128;
  static constexpr int kBoxBytes = kTokens * 128;
  static constexpr int kInputBytes = 2 * kBoxBytes;
  static constexpr int kTileBytes = kTokens * (kRows + kTilePadding) * 4;
  // Few tokens: two CTAs an SM, so that one starts while another ends.
  static constexpr int kCtasPerSm = kTokens <= 32 ? 2 : 1;
  static constexpr int kSharedBytes = (kCtasPerSm == 2 ? 112 : 227) * 1024;
  static_assert(kBoxBytes % kTileAlignment == 0, "boxes follow each other");
  static_assert(kTileBytes <= kSharedBytes - kTileAlignment - kControlBytes);
};

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

/// Registers of a thread: five warpgroups start with 96, three with 168.
template <class T>
__device__ __forceinline__ void take_registers(bool is_consumer) {
  if constexpr (T::kTokens >= 64) {
    if (is_consumer) {
      prims::registers_grow<T::kWarpgroups == 4 ? 112 : 224>();
    } else {
      prims::registers_shrink<T::kWarpgroups == 4 ? 24 : 40>();
    }
  }
}

/// What a CTA does; in shared memory, so that no one keeps it in registers.
struct Work {
  TileIndex tile;
  int rank;  // in the cluster
  int k_begin;
  int k_end;
};

struct Shared {
  uint8_t* stages;
  uint64_t* full;
  uint64_t* empty;
  Work* work;
};
static_assert(2 * kMaxStages * sizeof(uint64_t) + sizeof(Work) <= kControlBytes);

__device__ __forceinline__ Shared shared_storage(uint8_t* raw, const Params& p) {
  const uint32_t address = prims::shared_address(raw);
  uint8_t* stages = raw + ((kTileAlignment - address % kTileAlignment) % kTileAlignment);
  auto* barriers = reinterpret_cast<uint64_t*>(stages + p.num_stages * p.stage_bytes);
  return {stages, barriers, barriers + kMaxStages,
          reinterpret_cast<Work*>(barriers + 2 * kMaxStages)};
}

__device__ __forceinline__ Work work_of(const Params& p, int cta) {
  Work work;
  work.rank = cta % p.num_splits;
  work.tile = tile_of(cta / p.num_splits, p.num_row_tiles, p.num_token_tiles);
  work.k_begin = p.args.blocks.num_k_blocks * work.rank / p.num_splits;
  work.k_end = p.args.blocks.num_k_blocks * (work.rank + 1) / p.num_splits;
  return work;
}

/// Position in the ring of stages.
struct StageIndex {
  int stage = 0;
  uint32_t parity = 0;
  __device__ __forceinline__ void advance(int num_stages) {
    if (++stage == num_stages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

/// The one thread that issues copies.
template <class T>
struct Loader {
  const Params& p;
  const CUtensorMap* w_map;
  const CUtensorMap* x_map;
  const Shared& shared;
  const Work& work;

  __device__ __forceinline__ void load_weights(const StageIndex& at, int k_block) const {
    const Blocks& blocks = p.args.blocks;
    const int block_bytes = blocks.block_bytes();
    const uint64_t policy = p.num_token_tiles == 1 ? prims::kEvictFirst : prims::kEvictNormal;
    uint8_t* stage = shared.stages + at.stage * p.stage_bytes + T::kInputBytes;
    uint64_t* full = shared.full + at.stage;
    prims::mbarrier_arrive_expect_tx(full, T::kInputBytes + T::kRowBlocks * block_bytes);
#pragma unroll
    for (int b = 0; b < T::kRowBlocks; ++b) {
      const int block = (work.tile.row_tile * T::kRowBlocks + b) * blocks.num_k_blocks + k_block;
      prims::tensor_load_2d_hint(stage + b * block_bytes, w_map, 0,
                                 block * (block_bytes / kMapRowBytes), full, policy);
    }
  }

  __device__ __forceinline__ void load_inputs(const StageIndex& at, int k_block) const {
#pragma unroll
    for (int box = 0; box < 2; ++box) {
      prims::tensor_load_2d_hint(shared.stages + at.stage * p.stage_bytes + box * T::kBoxBytes,
                                 x_map, k_block * kBlockChannels + box * kBoxChannels,
                                 work.tile.token_tile * T::kTokens, shared.full + at.stage,
                                 prims::kEvictLast);
    }
  }

  /// Weights of the first stages are read while the kernel before this one still runs.
  __device__ __forceinline__ void run() const {
    const int k_ahead = min(work.k_begin + p.num_stages, work.k_end);
    StageIndex at;
    for (int kb = work.k_begin; kb < k_ahead; ++kb, at.advance(p.num_stages)) load_weights(at, kb);
    prims::wait_for_previous_kernel();
    at = {};
    for (int kb = work.k_begin; kb < k_ahead; ++kb, at.advance(p.num_stages)) load_inputs(at, kb);
    for (int kb = k_ahead; kb < work.k_end; ++kb, at.advance(p.num_stages)) {
      prims::mbarrier_wait(shared.empty + at.stage, at.parity ^ 1);
      load_weights(at, kb);
      load_inputs(at, kb);
    }
  }
};

/// sums (+)= fragments of channels 64·half + 16·j … · inputs of the stage.
template <class T>
__device__ __forceinline__ void multiply(float (&sums)[T::kTokens / 2], const uint32_t (&a)[4],
                                         const uint8_t* stage, int half, int j, bool is_first) {
  const uint64_t inputs = prims::wgmma_advance(
      prims::wgmma_descriptor_k128(stage + half * T::kBoxBytes), static_cast<uint32_t>(j) * 32);
  prims::WgmmaBf16<T::kTokens>::rs(sums, a, inputs, is_first ? 0 : 1);
}

template <class T>
__device__ __forceinline__ void promote(float (&totals)[T::kTokens / 2],
                                        const float (&sums)[T::kTokens / 2],
                                        const float (&scales)[2]) {
#pragma unroll
  for (int i = 0; i < T::kTokens / 2; ++i) {
    totals[i] = __fmaf_rn(scales[i % 4 / 2], sums[i], totals[i]);
  }
}

/// Groups of 128 channels: four batches of two products; the nibbles of a batch are decoded while
/// the one before it is multiplied.
template <class T>
__device__ __forceinline__ void whole_group(float (&totals)[T::kTokens / 2], const Params& p,
                                            const uint8_t* stage, const uint8_t* block, int row,
                                            const uint4 (&words)[2], uint64_t* empty) {
  const GroupFactors factors = group_factors<T::kGroups>(block, p.args.blocks, 0, row);
  float sums[T::kTokens / 2];
  uint32_t a[2][2][4];
#pragma unroll
  for (int batch = 0; batch < 4; ++batch) {
    const uint4 w = words[batch / 2];
    if (batch >= 2) prims::wgmma_wait<1>();  // of the batch whose registers are next
    dequantize(a[batch % 2][0], batch % 2 == 0 ? w.x : w.z, factors.offsets);
    dequantize(a[batch % 2][1], batch % 2 == 0 ? w.y : w.w, factors.offsets);
    prims::wgmma_fence();
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      multiply<T>(sums, a[batch % 2][j], stage, batch / 2, batch % 2 * 2 + j, batch == 0 && j == 0);
    }
    prims::wgmma_commit();
  }
  prims::wgmma_wait<0>();
  prims::wgmma_pin(sums);
  __syncwarp();
  if (threadIdx.x % 32 == 0) prims::mbarrier_arrive(empty);
  promote<T>(totals, sums, factors.scales);
}

/// Groups of 32 channels: two products each.
template <class T>
__device__ __forceinline__ void short_groups(float (&totals)[T::kTokens / 2], const Params& p,
                                             const uint8_t* stage, const uint8_t* block, int row,
                                             const uint4 (&words)[2], uint64_t* empty) {
#pragma unroll
  for (int group = 0; group < T::kGroups; ++group) {
    const GroupFactors factors = group_factors<T::kGroups>(block, p.args.blocks, group, row);
    const uint4 w = words[group / 2];
    float sums[T::kTokens / 2];
    uint32_t a[2][4];
    dequantize(a[0], group % 2 == 0 ? w.x : w.z, factors.offsets);
    dequantize(a[1], group % 2 == 0 ? w.y : w.w, factors.offsets);
    prims::wgmma_fence();
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      multiply<T>(sums, a[j], stage, group / 2, group % 2 * 2 + j, j == 0);
    }
    prims::wgmma_commit();
    prims::wgmma_wait<0>();
    prims::wgmma_pin(sums);
    promote<T>(totals, sums, factors.scales);
  }
  __syncwarp();
  if (threadIdx.x % 32 == 0) prims::mbarrier_arrive(empty);
}

template <class T>
__device__ __forceinline__ void multiply_stages(float (&totals)[T::kTokens / 2], const Params& p,
                                                const Shared& shared, int num_k_blocks) {
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const int unit = warp % 8;  // of 16 rows in the block
  const uint32_t block_at = T::kInputBytes + warp / 8 * p.args.blocks.block_bytes();
#pragma unroll
  for (int i = 0; i < T::kTokens / 2; ++i) totals[i] = 0.0F;
  StageIndex at;
  for (int kb = 0; kb < num_k_blocks; ++kb) {
    const uint8_t* stage = shared.stages + at.stage * p.stage_bytes;
    const uint8_t* block = stage + block_at;
    prims::mbarrier_wait(shared.full + at.stage, at.parity);
    const auto* fragments = reinterpret_cast<const uint4*>(block) + unit * 32 + lane;
    const uint4 words[2] = {fragments[0], fragments[256]};  // 64 channels of 8 units: 4 KiB
    uint64_t* empty = shared.empty + at.stage;
    if constexpr (T::kGroups == 1) {
      whole_group<T>(totals, p, stage, block, unit * 16 + lane / 4, words, empty);
    } else {
      short_groups<T>(totals, p, stage, block, unit * 16 + lane / 4, words, empty);
    }
    at.advance(p.num_stages);
  }
}

/// This CTA's share of the cluster's tile: sums of all ranks, in their order.
template <class T>
__device__ __forceinline__ void store_share(const Params& p, const float* tile, TileIndex index,
                                            int rank) {
  constexpr int kColumns = T::kRows / 4;
  const StoreTarget target = store_target(p.args);
  const int first_token = index.token_tile * T::kTokens;
  const int num_tokens = min(T::kTokens, p.args.rows - first_token);
  for (int i = rank * T::kConsumers + threadIdx.x; i < num_tokens * kColumns;
       i += p.num_splits * T::kConsumers) {
    const float* from = tile + i / kColumns * (T::kRows + kTilePadding) + i % kColumns * 4;
    float4 total = make_float4(0.0F, 0.0F, 0.0F, 0.0F);
    if (p.num_splits == 1) {
      total = *reinterpret_cast<const float4*>(from);
    } else {
      for (int split = 0; split < p.num_splits; ++split) {
        const float4 part = prims::cluster_load(from, split);
        total.x += part.x;
        total.y += part.y;
        total.z += part.z;
        total.w += part.w;
      }
    }
    const int row = index.row_tile * T::kRows + i % kColumns * 4;
    store_four(target, first_token + i / kColumns, row, total);
  }
}

#endif

}  // namespace comet::formats::w4a16_cuda::wgmma
