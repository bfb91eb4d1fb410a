// y = x · Wᵀ of w4ax by wgmma m64nNk32 on signed bytes; sm_90a. Callers: gemm_sm90.cu.
//
// Operands: weights are wgmma's A, 64 rows of a warpgroup, from registers: packed nibbles lie in
//   the order of its fragments (tile128), so that 16 bytes of a lane are two k32 steps once
//   expanded. Tokens are N: codes s8 [tokens, blocks · 128] by tensor copies with 128-byte swizzle.
// Grid: as many CTAs as SMs; a CTA walks over its work (Sm90Schedule): whole tiles of kRows ×
//   kTokens, then an equal share of the blocks of the others, which may begin and end within tiles.
// Roles: two consumer warpgroups, 64 · kParts rows each; of the third a thread of each warp issues
//   copies of blocks, one of weights (8 KiB), one of codes (kTokens · 128 bytes), two of levels,
//   into kStages stages, across the borders of tiles.
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

/// What the warps behind the consumers copy, a lane of each: what a lane does for a copy takes a
/// hundred clocks.
enum class Sm90Role { kWeights, kInputs, kMultipliers, kOffsets };

template <class T>
constexpr int kSm90Roles = T::kHasLevels ? 4 : 2;

/// Elected and not named by its index: ptxas then knows that no other lane is there, and makes no
/// loop over lanes of each copy.
template <class T>
__device__ __forceinline__ bool sm90_has_role(Sm90Role role) {
  return threadIdx.x / 32 == static_cast<uint32_t>(T::kConsumers / 32 + static_cast<int>(role)) &&
         prims::elect_one();
}

/// act.run<role>() in the thread that has the role.
template <class T, class Do>
__device__ __forceinline__ void sm90_with_role(const Do& act) {
  if (sm90_has_role<T>(Sm90Role::kWeights)) act.template run<Sm90Role::kWeights>();
  if (sm90_has_role<T>(Sm90Role::kInputs)) act.template run<Sm90Role::kInputs>();
  if constexpr (T::kHasLevels) {
    if (sm90_has_role<T>(Sm90Role::kMultipliers)) act.template run<Sm90Role::kMultipliers>();
    if (sm90_has_role<T>(Sm90Role::kOffsets)) act.template run<Sm90Role::kOffsets>();
  }
}

/// All threads. Every role fills, every warp of consumers frees each stage.
template <class T>
__device__ __forceinline__ void sm90_init_barriers(const Sm90Pipeline<T>& pipeline) {
  if (sm90_has_role<T>(Sm90Role::kWeights)) {
#pragma unroll
    for (int stage = 0; stage < T::kStages; ++stage) {
      prims::mbarrier_init(pipeline.full(stage), kSm90Roles<T>);
      prims::mbarrier_init(pipeline.empty(stage), T::kConsumers / 32);
    }
    prims::mbarrier_init_fence();
  }
  __syncthreads();
}

// ---- Producers: a thread of each role

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

/// A block of a CTA's tile.
struct Sm90Block {
  int row_tile, token_tile, block;
};

/// The role's part of a block, of every packed tile that there is, into a stage.
template <class T, Sm90Role kRole>
__device__ __forceinline__ void sm90_load(const GemmArgs& args, const Sm90Maps& maps,
                                          const Sm90Block& from, const Sm90Pipeline<T>& pipeline,
                                          int stage, uint64_t policy) {
  uint64_t* full = pipeline.full(stage);
  if constexpr (kRole == Sm90Role::kInputs) {
    prims::mbarrier_arrive_expect_tx(full, T::kInputBytes);
    prims::tensor_load_2d(pipeline.inputs(stage), &maps.codes, from.block * kBlockChannels,
                          from.token_tile * T::kTokens, full);
    return;
  }
  constexpr bool kIsWeights = kRole == Sm90Role::kWeights;
  constexpr int kMapRows = kTileBytes / kMapRowBytes;
  static_assert(kTileRows == kMapRowBytes);
  const int first = from.row_tile * T::kTiles;
  const int num_tiles = first + T::kTiles <= args.num_tiles ? T::kTiles : 1;
  prims::mbarrier_arrive_expect_tx(
      full, static_cast<uint32_t>(num_tiles * (kIsWeights ? kTileBytes : kTileRows)));
#pragma unroll
  for (int i = 0; i < T::kTiles; ++i) {
    if (i >= num_tiles) break;
    if constexpr (kIsWeights) {
      prims::tensor_load_2d_hint(pipeline.weights(stage) + i * kTileBytes, &maps.packed, 0,
                                 ((first + i) * args.blocks + from.block) * kMapRows, full, policy);
    } else {
      constexpr bool kIsOffsets = kRole == Sm90Role::kOffsets;
      prims::tensor_load_2d(
          pipeline.levels(stage) + i * 2 * kTileRows + (kIsOffsets ? kTileRows : 0),
          kIsOffsets ? &maps.offset : &maps.multiplier, 0, from.block * args.num_tiles + first + i,
          full);
    }
  }
}

/// What the end of a tile will ask for, into L2.
template <class T>
__device__ __forceinline__ void sm90_prefetch_scales(const GemmArgs& args, int row_tile) {
  const int first = row_tile * T::kTiles;
  const int num_tiles = first + T::kTiles <= args.num_tiles ? T::kTiles : 1;
  prims::bulk_prefetch_l2(args.channel_scale + first * kTileRows,
                          static_cast<uint32_t>(num_tiles * kTileRows * 4));
}

/// Weights and levels do not depend on the kernel before, which makes the codes: those of all
/// stages are on their way before it has ended. A stage's first filling waits for nothing.
template <class T>
struct Sm90Producer {
  const GemmArgs& args;
  const Sm90Grid& grid;
  const Sm90Pipeline<T>& pipeline;
  const Sm90Maps& maps;

  template <Sm90Role kRole>
  __device__ __forceinline__ void run() const {
    if constexpr (kRole == Sm90Role::kInputs) prims::wait_for_previous_kernel();
    // Weights that no other tile reads are the first to leave L2.
    const uint64_t policy = grid.token_tiles == 1 ? prims::kEvictFirst : prims::kEvictNormal;
    Sm90StageIndex<T> at;
    for (Sm90Cursor from(grid, args.blocks); from.is_valid; from.advance(), at.advance()) {
      if (kRole == Sm90Role::kWeights && from.block == from.work.begin) {
        sm90_prefetch_scales<T>(args, from.place.row_tile);
      }
      prims::mbarrier_wait(pipeline.empty(at.stage), at.parity ^ 1U);
      sm90_load<T, kRole>(args, maps, {from.place.row_tile, from.place.token_tile, from.block},
                          pipeline, at.stage, policy);
    }
  }
};

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
