// y = x · Wᵀ of w4ax by wgmma m64nNk32 on signed bytes; sm_90a. Callers: gemm_sm90.cu.
//
// Operands: weights are wgmma's A, 64 rows of a warpgroup, from registers: packed nibbles lie in
//   the order of its fragments (tile128), so that 16 bytes of a lane are two k32 steps once
//   expanded. Tokens are N: codes s8 [tokens, blocks · 128] by tensor copies with 128-byte swizzle.
// Grid: as many CTAs as SMs; a CTA walks over its work (Sm90Schedule): whole tiles of kRows ×
//   kTokens, then an equal share of the blocks of the others, which may begin and end within tiles.
// Roles: two consumer warpgroups, 64 · kParts rows each; one thread of the third issues
//   copies of blocks (8 KiB of weights, kTokens · 128 bytes of codes) into kStages stages, across
//   the borders of tiles.
// A block in a consumer: two batches of 64 channels; nibbles of one are expanded while wgmma works
//   on the one before (two sets of fragments, wait_group 1).
// Start: may overlap the end of the kernel before, which made the codes; weights of all stages are
//   on their way by then. The next launch may overlap this one likewise.
// Numerics: int32 sums, exact; channel weights go in as 16·q, and the sum is shifted back;
//   progressive ones as u·g + o. Two segments, two sets of sums. A CTA that has a part of a tile
//   leaves its int32 sums in the workspace; the last one of the tile adds them all.
// Floor: packed bytes / copy rate; 2 · tokens · rows · k / 1,979 TOPS; bytes from L2 at about 33 a
//   clock and SM, which is why large products take 256 rows: docs/kernels/w4ax_sm90.md.
#pragma once

#include <cuda.h>

#include "comet/device/cuda/prims/bulk_copy.cuh"
#include "comet/device/cuda/prims/control.cuh"
#include "comet/device/cuda/prims/mbarrier.cuh"
#include "comet/device/cuda/prims/wgmma.cuh"
#include "comet/device/cuda/prims/wgmma_s8.cuh"
#include "comet/device/cuda/tensor_map.h"
#include "comet/formats/w4ax/cuda/gemm_sm90.h"
#include "comet/formats/w4ax/cuda/gemm_sm90_maps.h"
#include "comet/formats/w4ax/cuda/nibbles.cuh"

namespace comet::formats::w4ax::cuda {

template <WeightKind kWeightKind, int kTileRowsValue, int kTokensValue, bool kTwoSegmentsValue>
struct Sm90Traits {
  static constexpr WeightKind kKind = kWeightKind;
  static constexpr int kRows = kTileRowsValue;
  static constexpr int kTokens = kTokensValue;
  static constexpr bool kTwoSegments = kTwoSegmentsValue;
  static constexpr int kSegments = kTwoSegments ? 2 : 1;
  static constexpr int kTiles = kRows / kTileRows;  // of packed weights
  static constexpr int kParts = kRows / 128;        // of 64 rows, of a warpgroup
  static constexpr int kConsumers = 256;
  static constexpr int kThreads = kConsumers + 128;
  static constexpr int kSums = kTokens / 2;  // of a thread and part
  static constexpr bool kHasLevels = kKind == WeightKind::kProgressive;

  static constexpr int kInputBytes = kTokens * kBlockChannels;
  static constexpr int kStageBytes = kInputBytes + kTiles * kTileBytes;
  static constexpr int kLevelBytes = kHasLevels ? kTiles * 2 * kTileRows : 0;  // of a stage
  // A warp's 16 rows × 8 tokens on their way out, in rows of 20 words: no bank is met twice.
  static constexpr int kOutPitch = 20;
  static constexpr int kOutWords = 8 * kOutPitch * kSegments;
  static constexpr int kOutBytes = kConsumers / 32 * kOutWords * 4;
  static constexpr int kControlBytes = 256;

  static constexpr int kCtasPerSm = sm90_ctas_per_sm(kTokens, kSegments);
  // Registers of a thread. Warpgroups share what the CTA was launched with, no more.
  static constexpr int kLaunchRegisters = kCtasPerSm == 2 ? 80 : 168;
  static constexpr int kConsumerRegisters = kCtasPerSm == 2 ? 104 : 240;
  static constexpr int kProducerRegisters = 24;
  static_assert(2 * kConsumerRegisters + kProducerRegisters <= 3 * kLaunchRegisters);

  static constexpr int kSharedLimit = 227 * 1024 / kCtasPerSm - (kCtasPerSm - 1) * 1024;
  static constexpr int kRoom = kSharedLimit - kOutBytes - kControlBytes;
  static constexpr int kMaxStages = 10;
  static constexpr int kStagesThatFit = kRoom / (kStageBytes + kLevelBytes);
  static constexpr int kStages = kStagesThatFit < kMaxStages ? kStagesThatFit : kMaxStages;
  static constexpr int kLevelsAt = kStages * kStageBytes;
  static constexpr int kOutAt = kLevelsAt + kStages * kLevelBytes;
  static constexpr int kControlAt = kOutAt + kOutBytes;
  static constexpr int kSharedBytes = kControlAt + kControlBytes;
  static_assert(kStages >= 4 && kStageBytes % 1024 == 0);
  static_assert(2 * kStages * 8 + 2 * 4 <= kControlBytes);
};

/// The tiles of a product, the same for all CTAs.
struct Sm90Grid {
  int32_t row_tiles;  // of kRows
  int32_t token_tiles;
  int32_t num_whole;
};

/// Blocks begin … end − 1 of a tile.
struct Sm90Work {
  int tile, begin, end;
};

/// units · num_ctas < 2³², which launch_gemm_sm90() sees to.
__device__ __forceinline__ int sm90_share(int units, int cta, int num_ctas) {
  return static_cast<int>(static_cast<uint32_t>(units) * static_cast<uint32_t>(cta) /
                          static_cast<uint32_t>(num_ctas));
}

/// The work of a CTA, piece by piece; producer and consumers each walk over it.
struct Sm90Schedule {
  const Sm90Grid& grid;
  int blocks;
  int whole;      // the next whole tile
  int unit, end;  // blocks of the tiles behind the whole ones

  __device__ Sm90Schedule(const Sm90Grid& grid_of_tiles, int num_blocks)
      : grid(grid_of_tiles), blocks(num_blocks), whole(static_cast<int>(blockIdx.x)) {
    const int units = (grid.row_tiles * grid.token_tiles - grid.num_whole) * blocks;
    const int cta = static_cast<int>(blockIdx.x);
    unit = sm90_share(units, cta, static_cast<int>(gridDim.x));
    end = sm90_share(units, cta + 1, static_cast<int>(gridDim.x));
  }

  __device__ bool next(Sm90Work& work) {
    if (whole < grid.num_whole) {
      work = {whole, 0, blocks};
      whole += static_cast<int>(gridDim.x);
      return true;
    }
    if (unit >= end) return false;
    const int tile = unit / blocks;
    const int begin = unit - tile * blocks;
    const int rest = end - unit;
    work.tile = grid.num_whole + tile;
    work.begin = begin;
    work.end = begin + rest < blocks ? begin + rest : blocks;
    unit += work.end - begin;
    return true;
  }
};

/// Neighbouring tiles: groups of 8 row tiles that walk over all tokens, so that what runs at once
/// reads the same weights and codes from L2.
struct Sm90Place {
  int row_tile, token_tile;
};

__device__ __forceinline__ Sm90Place sm90_place(const Sm90Grid& grid, int tile) {
  constexpr int kGroup = 8;
  const int group = tile / (kGroup * grid.token_tiles) * kGroup;
  const int in_group = tile % (kGroup * grid.token_tiles);
  const int left = grid.row_tiles - group;
  const int size = left < kGroup ? left : kGroup;
  return {group + in_group % size, in_group / size};
}

template <class T>
struct Sm90Pipeline {
  uint8_t* shared;

  __device__ uint8_t* inputs(int stage) const { return shared + stage * T::kStageBytes; }
  __device__ uint8_t* weights(int stage) const { return inputs(stage) + T::kInputBytes; }
  __device__ uint8_t* levels(int stage) const {
    return shared + T::kLevelsAt + stage * T::kLevelBytes;
  }
  __device__ uint64_t* full(int stage) const {
    return reinterpret_cast<uint64_t*>(shared + T::kControlAt) + stage;
  }
  __device__ uint64_t* empty(int stage) const { return full(T::kStages + stage); }
  /// A word of each warpgroup.
  __device__ int* votes() const { return reinterpret_cast<int*>(full(2 * T::kStages)); }
};

template <class T>
struct Sm90StageIndex {
  int stage = 0;
  uint32_t parity = 0;
  __device__ __forceinline__ void advance() {
    if (++stage == T::kStages) {
      stage = 0;
      parity ^= 1U;
    }
  }
};

/// The one thread of a CTA that makes barriers and issues copies, of the first warp behind the
/// consumers. Elected and not named by its index: ptxas then knows that no other lane is there, and
/// makes no loop over lanes of each copy, which took a hundred clocks.
template <class T>
__device__ __forceinline__ bool sm90_is_producer() {
  return threadIdx.x / 32 == T::kConsumers / 32 && prims::elect_one();
}

/// All threads. Every warp of consumers frees each stage.
template <class T>
__device__ __forceinline__ void sm90_init_barriers(const Sm90Pipeline<T>& pipeline) {
  if (sm90_is_producer<T>()) {
#pragma unroll
    for (int stage = 0; stage < T::kStages; ++stage) {
      prims::mbarrier_init(pipeline.full(stage), 1);
      prims::mbarrier_init(pipeline.empty(stage), T::kConsumers / 32);
    }
    prims::mbarrier_init_fence();
  }
  __syncthreads();
}

// ---- Producer: one thread

/// One block after another of a CTA's work.
struct Sm90Cursor {
  Sm90Schedule schedule;
  Sm90Work work{};
  Sm90Place place{};
  int block = 0;
  bool is_valid = false;

  __device__ Sm90Cursor(const Sm90Grid& grid, int blocks) : schedule(grid, blocks) { next_tile(); }
  __device__ void next_tile() {
    is_valid = schedule.next(work);
    if (!is_valid) return;
    block = work.begin;
    place = sm90_place(schedule.grid, work.tile);
  }
  __device__ void advance() {
    if (++block == work.end) next_tile();
  }
};

/// A block of a packed tile, or of the packed tiles of a CTA's tile.
struct Sm90Block {
  int tile, block;
};

/// Its weights and levels, on their way.
template <class T>
__device__ __forceinline__ void sm90_load_block(const GemmArgs& args, const Sm90Maps& maps,
                                                const Sm90Block& from, uint8_t* weights,
                                                uint8_t* levels, uint64_t* full, uint64_t policy) {
  constexpr auto kMapRows = static_cast<int>(kTileBytes / kMapRowBytes);
  prims::tensor_load_2d_hint(weights, &maps.packed, 0,
                             (from.tile * args.blocks + from.block) * kMapRows, full, policy);
  if constexpr (T::kHasLevels) {
    static_assert(kTileRows == kMapRowBytes);
    const int row = from.block * args.num_tiles + from.tile;
    prims::tensor_load_2d(levels, &maps.multiplier, 0, row, full);
    prims::tensor_load_2d(levels + kTileRows, &maps.offset, 0, row, full);
  }
}

/// A block of every packed tile of `row_tile` that there is, into a stage, whose bytes it expects.
template <class T>
__device__ __forceinline__ void sm90_load_tiles(const GemmArgs& args, const Sm90Maps& maps,
                                                const Sm90Block& from,
                                                const Sm90Pipeline<T>& pipeline, int stage,
                                                uint64_t policy) {
  const int first = from.tile * T::kTiles;
  const int num_tiles = first + T::kTiles <= args.num_tiles ? T::kTiles : 1;
  constexpr int kLevels = T::kHasLevels ? 2 * kTileRows : 0;
  uint64_t* full = pipeline.full(stage);
  prims::mbarrier_arrive_expect_tx(
      full, static_cast<uint32_t>(T::kInputBytes + num_tiles * (kTileBytes + kLevels)));
#pragma unroll 1  // registers of a producer are few
  for (int i = 0; i < num_tiles; ++i) {
    sm90_load_block<T>(args, maps, {first + i, from.block},
                       pipeline.weights(stage) + i * kTileBytes,
                       pipeline.levels(stage) + i * kLevels, full, policy);
  }
}

template <class T>
__device__ __forceinline__ void sm90_load_weights(const GemmArgs& args, const Sm90Maps& maps,
                                                  const Sm90Cursor& at,
                                                  const Sm90Pipeline<T>& pipeline, int stage) {
  // Weights that no other tile reads are the first to leave L2.
  const uint64_t policy =
      at.schedule.grid.token_tiles == 1 ? prims::kEvictFirst : prims::kEvictNormal;
  if (at.block == at.work.begin) {  // what the end of the tile will ask for
    const int first = at.place.row_tile * T::kTiles;
    const int num_tiles = first + T::kTiles <= args.num_tiles ? T::kTiles : 1;
    prims::bulk_prefetch_l2(args.channel_scale + first * kTileRows,
                            static_cast<uint32_t>(num_tiles * kTileRows * 4));
  }
  sm90_load_tiles<T>(args, maps, {at.place.row_tile, at.block}, pipeline, stage, policy);
}

template <class T>
__device__ __forceinline__ void sm90_load_inputs(const Sm90Cursor& at,
                                                 const Sm90Pipeline<T>& pipeline, int stage,
                                                 const Sm90Maps& maps) {
  prims::tensor_load_2d(pipeline.inputs(stage), &maps.codes, at.block * kBlockChannels,
                        at.place.token_tile * T::kTokens, pipeline.full(stage));
}

/// Weights do not depend on the kernel before, which makes the codes: those of all stages are on
/// their way before it has ended.
template <class T>
__device__ __forceinline__ void sm90_produce(const GemmArgs& args, const Sm90Grid& grid,
                                             const Sm90Pipeline<T>& pipeline,
                                             const Sm90Maps& maps) {
  Sm90Cursor weights(grid, args.blocks);
  Sm90Cursor inputs(grid, args.blocks);
  int num_early = 0;
  for (; num_early < T::kStages && weights.is_valid; ++num_early, weights.advance()) {
    sm90_load_weights<T>(args, maps, weights, pipeline, num_early);
  }
  prims::wait_for_previous_kernel();
  for (int stage = 0; stage < num_early; ++stage, inputs.advance()) {
    sm90_load_inputs<T>(inputs, pipeline, stage, maps);
  }
  Sm90StageIndex<T> at;  // all stages are filled once, or nothing is left
  for (; weights.is_valid; weights.advance(), inputs.advance(), at.advance()) {
    prims::mbarrier_wait(pipeline.empty(at.stage), at.parity);
    sm90_load_weights<T>(args, maps, weights, pipeline, at.stage);
    sm90_load_inputs<T>(inputs, pipeline, at.stage, maps);
  }
}

// ---- Consumers

/// Where a consumer thread stands in its tile.
template <class T>
struct Sm90Thread {
  int warpgroup = static_cast<int>(threadIdx.x) / 128;
  int warp = static_cast<int>(threadIdx.x) / 32 % 4;
  int lane = static_cast<int>(threadIdx.x) % 32;

  /// Packed tile of the CTA's.
  __device__ int tile() const { return T::kTiles == 2 ? warpgroup : 0; }
  /// First of the warp's 16 rows in the packed tile.
  __device__ int row(int part) const {
    return (T::kTiles == 2 ? part : warpgroup) * 64 + warp * 16;
  }
};

/// This warp has read the stage.
template <class T>
__device__ __forceinline__ void sm90_release(const Sm90Pipeline<T>& pipeline, int stage) {
  if (threadIdx.x % 32 == 0) prims::mbarrier_arrive(pipeline.empty(stage));
}

template <class T>
using Sm90Sums = int32_t[T::kParts][T::kSums];

/// sums += the next num_blocks blocks (none if negative). On return nothing is under way.
template <class T>
__device__ __forceinline__ void sm90_multiply(const Sm90Pipeline<T>& pipeline,
                                              Sm90StageIndex<T>& at, int num_blocks,
                                              Sm90Sums<T>& sums) {
  const Sm90Thread<T> thread;
  const int weights_at =
      thread.tile() * kTileBytes + thread.row(0) / 16 * kUnitBytes + thread.lane * 16;
  uint32_t a[2][T::kParts][2][4];  // of either half of a block: k32 steps of low, high nibbles
  int before = 0;
#pragma unroll 1
  for (int i = 0; i < num_blocks; ++i) {
    prims::mbarrier_wait(pipeline.full(at.stage), at.parity);
    const uint8_t* weights = pipeline.weights(at.stage) + weights_at;
    const uint64_t inputs = prims::wgmma_descriptor_k128(pipeline.inputs(at.stage));
    uint4 raw[2][T::kParts];
    Levels levels[T::kParts];
#pragma unroll
    for (int part = 0; part < T::kParts; ++part) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        raw[half][part] =
            *reinterpret_cast<const uint4*>(weights + half * kHalfBytes + part * 4 * kUnitBytes);
      }
      if constexpr (T::kHasLevels) {
        levels[part] = load_levels(pipeline.levels(at.stage) + thread.tile() * 2 * kTileRows,
                                   thread.row(part), thread.lane / 4);
      }
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      prims::wgmma_wait<1>();  // the batch that read a[half] is through
      if (half == 1 && i > 0) sm90_release<T>(pipeline, before);
#pragma unroll
      for (int part = 0; part < T::kParts; ++part) {
        expand<T::kKind>(raw[half][part], levels[part], a[half][part][0], a[half][part][1]);
        prims::wgmma_pin(a[half][part][0]);
        prims::wgmma_pin(a[half][part][1]);
      }
      prims::wgmma_fence();
#pragma unroll
      for (int step = 0; step < 2; ++step) {
#pragma unroll
        for (int part = 0; part < T::kParts; ++part) {
          prims::WgmmaS8<T::kTokens>::rs(
              sums[part], a[half][part][step],
              prims::wgmma_advance(inputs, static_cast<uint32_t>(half * 64 + step * 32)), 1);
        }
      }
      prims::wgmma_commit();
    }
    before = at.stage;
    at.advance();
  }
  prims::wgmma_wait<0>();
#pragma unroll
  for (int part = 0; part < T::kParts; ++part) prims::wgmma_pin(sums[part]);
  if (num_blocks > 0) sm90_release<T>(pipeline, before);
}

}  // namespace comet::formats::w4ax::cuda
