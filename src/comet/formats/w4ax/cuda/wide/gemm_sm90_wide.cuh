// y = x · Wᵀ of w4ax for more than 64 tokens (sm_90a): tiles whole, four consumer warpgroups or two
// of 256 tokens, so that some expand weights or store while others multiply. Operands, producer and
// numerics are those of gemm_sm90.cuh. Callers: gemm_sm90_wide.cu.
//
// A consumer warpgroup has 64 rows × kTokens of sums:
//   256 × 128: four times 64 rows, every block each. 128 × 256: two times 64 rows.
//   128 × 64, 128: two pairs of 64 rows; a pair takes every other block of the INT4 (or only)
//   segment. Then each gives the other its sums of half the tokens and keeps its own half.
// Blocks of an INT8 segment behind come last, into a second set of sums: of a pair's half of the
//   tokens, every block; elsewhere of 32 tokens after 32, while the stages are held
//   (kSm90MostHeld).
// End of a tile: tables of scales come by cp.async while products run; a warp turns 16 rows × 32
//   tokens by stmatrix in its own shared memory and stores sectors; no barrier of the CTA.
// Floor: 4 clocks a token and block of 128 rows; issue slots: docs/kernels/w4ax_sm90.md.
#pragma once

#include "comet/device/cuda/prims/cp_async.cuh"
#include "comet/device/cuda/prims/ldmatrix.cuh"
#include "comet/device/cuda/prims/mma.cuh"
#include "comet/formats/w4ax/cuda/gemm_sm90.cuh"
#include "comet/formats/w4ax/cuda/wide/gemm_sm90_wide.h"

namespace comet::formats::w4ax::cuda {

template <WeightKind kWeightKind, int kTileRowsValue, int kTokensValue, bool kTwoSegmentsValue>
struct Sm90WideTraits {
  static constexpr WeightKind kKind = kWeightKind;
  static constexpr int kRows = kTileRowsValue;
  static constexpr int kTokens = kTokensValue;
  static constexpr bool kTwoSegments = kTwoSegmentsValue;
  static constexpr bool kHasLevels = kKind == WeightKind::kProgressive;
  static constexpr int kTiles = kRows / kTileRows;  // of packed weights
  static constexpr int kGroups = kTokens == 256 ? 2 : 4;
  static constexpr bool kSplitsK = kRows == 128 && kGroups == 4;
  static constexpr int kConsumers = kGroups * 128;
  static constexpr int kThreads = kConsumers + 128;
  static constexpr int kSums = kTokens / 2;                            // of a thread
  static constexpr int kOwnTokens = kSplitsK ? kTokens / 2 : kTokens;  // that a warpgroup stores
  static constexpr int kOwnSums = kOwnTokens / 2;
  static constexpr int kHighTokens = kSplitsK ? kOwnTokens : 16;  // of an INT8 pass
  static constexpr int kPasses = kOwnTokens / kHighTokens;

  static constexpr int kInputBytes = kTokens * kBlockChannels;
  static constexpr int kStageBytes = kInputBytes + kTiles * kTileBytes;
  static constexpr int kLevelBytes = kHasLevels ? kTiles * 2 * kTileRows : 0;  // of a stage
  // Of a warp: sums that it is given, then what it turns.
  static constexpr int kGivenBytes = kSplitsK ? 32 * kOwnSums * 4 : 0;
  static constexpr int kTurnBytes = kGivenBytes > 1024 ? kGivenBytes : 1024;
  // Of a warpgroup and tile, two of each: scales of tokens, of 64 rows, bias, OutputTile.
  static constexpr int kTokenBytes = kTwoSegments ? 8 : 4;
  static constexpr int kTableBytes = kOwnTokens * kTokenBytes + 2 * 64 * 4 + 16;
  static constexpr int kControlBytes = 256;

  // Registers of a thread. Warpgroups share what the CTA was launched with, no more.
  static constexpr int kLaunchRegisters = kGroups == 4 ? 96 : 168;
  static constexpr int kConsumerRegisters = kGroups == 4 ? 112 : 240;
  static constexpr int kProducerRegisters = kGroups == 4 ? 32 : 24;
  static_assert(kGroups * kConsumerRegisters + kProducerRegisters <=
                (kGroups + 1) * kLaunchRegisters);

  static constexpr int kTurnsBytes = kConsumers / 32 * kTurnBytes;
  static constexpr int kTablesBytes = kGroups * 2 * kTableBytes;
  static constexpr int kRoom = 227 * 1024 - kTurnsBytes - kTablesBytes - kControlBytes;
  static constexpr int kMaxStages = 12;
  static constexpr int kStagesThatFit = kRoom / (kStageBytes + kLevelBytes);
  // Even where pairs take blocks in turn: within a tile a stage is one pair's. A wait names a phase
  // by its parity, so that a pair that came by every second time would take the end of the phase
  // before the other pair's for its own.
  static constexpr int kStages = (kStagesThatFit < kMaxStages ? kStagesThatFit : kMaxStages) /
                                 (kSplitsK ? 2 : 1) * (kSplitsK ? 2 : 1);
  static constexpr int kRing = kStages;  // stages that blocks take in turn
  static constexpr int kLevelsAt = kStages * kStageBytes;
  static constexpr int kTurnAt = kLevelsAt + kStages * kLevelBytes;
  static constexpr int kTablesAt = kTurnAt + kTurnsBytes;
  static constexpr int kControlAt = kTablesAt + kTablesBytes;
  static constexpr int kSharedBytes = kControlAt + kControlBytes;
  static_assert(kStages >= 4 && kStageBytes % 1024 == 0 && kTableBytes % 16 == 0);
  static_assert(2 * kStages * 8 <= kControlBytes);
  static_assert(kPasses == 1 || kStages > kSm90MostHeld);
};

/// Where a consumer thread stands in its tile.
template <class T>
struct Sm90WideThread {
  uint32_t idx = prims::thread_idx_anew();
  int group = static_cast<int>(idx / 128);
  int warp = static_cast<int>(idx / 32 % 4);
  int lane = static_cast<int>(idx % 32);

  /// Which half of the blocks and then of the tokens.
  __device__ int pair() const { return T::kSplitsK ? group >> 1 : 0; }
  /// Packed tile of the CTA's.
  __device__ int tile() const { return T::kTiles == 2 ? group >> 1 : 0; }
  /// First of the warp's 16 rows in the packed tile.
  __device__ int row() const { return (group & 1) * 64 + warp * 16; }
  /// First of the tokens that its warpgroup stores.
  __device__ int first_token() const { return pair() * T::kOwnTokens; }
};

/// The stage of a CTA's block_idx-th block.
template <class T>
__device__ __forceinline__ Sm90StageIndex<T> sm90_stage_of(uint32_t block_idx) {
  constexpr auto kRing = static_cast<uint32_t>(T::kRing);
  return {static_cast<int>(block_idx % kRing), block_idx / kRing & 1U};
}

/// As load_levels, `rows` from the first of this lane's on.
__device__ __forceinline__ Levels sm90_load_levels(const uint8_t* rows) {
  Levels levels;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int offset = *reinterpret_cast<const signed char*>(rows + kTileRows + 8 * i);
    levels.multiplier[i] = rows[8 * i];
    levels.offset[i] = static_cast<uint32_t>(offset) * 0x01010101U + 0x80808080U;
  }
  return levels;
}

/// What a multiplication goes over: blocks from stage `at` on.
template <class T>
struct Sm90Blocks {
  Sm90StageIndex<T> at;
  int num_blocks = 0;

  __device__ void advance(int num_stages) {
    at.stage += num_stages;
    if (at.stage < T::kRing) return;
    at.stage -= T::kRing;
    at.parity ^= 1U;
  }
};

/// sums += these blocks, or every other one of them. On return nothing is under way. A stage is
/// free when all consumers' warps have said so; one that has every other block speaks for two.
template <class T>
__device__ __forceinline__ void sm90_wide_multiply(const Sm90Pipeline<T>& pipeline,
                                                   Sm90Blocks<T> blocks,
                                                   int32_t (&sums)[T::kSums]) {
  constexpr int kStep = T::kSplitsK ? 2 : 1;
  const Sm90WideThread<T> thread;
  const uint8_t* weights = pipeline.weights(0) + thread.tile() * kTileBytes +
                           (thread.row() >> 4) * kUnitBytes + thread.lane * 16;
  const uint8_t* level_rows =
      pipeline.levels(0) + thread.tile() * 2 * kTileRows + thread.row() + (thread.lane >> 2);
  const uint32_t inputs = prims::wgmma_low_k128(pipeline.inputs(0));
  const bool speaks = thread.lane < kStep;
  uint32_t a[2][2][4];  // of either half of a block: k32 steps of low, high nibbles
  int before = 0;
#pragma unroll 1
  for (int i = 0; i < blocks.num_blocks; ++i) {
    const Sm90StageIndex<T> at = blocks.at;
    prims::mbarrier_wait(pipeline.full(at.stage), at.parity);
    Levels levels;
    if constexpr (T::kHasLevels) levels = sm90_load_levels(level_rows + at.stage * T::kLevelBytes);
    const uint32_t block_inputs = inputs + static_cast<uint32_t>(at.stage * (T::kStageBytes / 16));
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      uint32_t(&fragments)[2][4] = a[half];
      const uint4 raw =
          *reinterpret_cast<const uint4*>(weights + at.stage * T::kStageBytes + half * kHalfBytes);
      prims::wgmma_wait<1>();  // the batch that read these fragments is through
      if (half == 1 && i > 0 && speaks) prims::mbarrier_arrive(pipeline.empty(before));
      expand<T::kKind>(raw, levels, fragments[0], fragments[1]);
      prims::wgmma_pin(fragments[0]);
      prims::wgmma_pin(fragments[1]);
      prims::wgmma_fence();
#pragma unroll
      for (int step = 0; step < 2; ++step) {
        const auto offset = static_cast<uint32_t>((half * 64 + step * 32) / 16);
        prims::WgmmaS8<T::kTokens>::rs(
            sums, fragments[step], prims::wgmma_descriptor_of_low_k128(block_inputs + offset), 1);
      }
      prims::wgmma_commit();
    }
    before = at.stage;
    blocks.advance(kStep);
  }
  prims::wgmma_wait<0>();
  prims::wgmma_pin(sums);
  if (blocks.num_blocks > 0 && speaks) prims::mbarrier_arrive(pipeline.empty(before));
}

/// sums += these blocks × kHighTokens tokens from first_token on, by mma: few blocks, and wgmma
/// would take the registers of a second set of sums for all of the kernel.
template <class T>
__device__ __forceinline__ void sm90_high_multiply(const Sm90Pipeline<T>& pipeline,
                                                   Sm90Blocks<T> blocks, int first_token,
                                                   bool releases,
                                                   int32_t (&sums)[T::kHighTokens / 2]) {
  const Sm90WideThread<T> thread;
  const int weights_at =
      thread.tile() * kTileBytes + (thread.row() >> 4) * kUnitBytes + thread.lane * 16;
  // ldmatrix: lane l names token l % 8 of the 16-byte chunk l / 8 of a half.
  const int inputs_at = (first_token + (thread.lane & 7)) * kBlockChannels;
  // Held stages: kSm90MostHeld, so that there is no loop.
  const int num_blocks = T::kPasses > 1 ? kSm90MostHeld : blocks.num_blocks;
#pragma unroll 1
  for (int i = 0; i < num_blocks; ++i, blocks.advance(1)) {
    const int stage = blocks.at.stage;
    prims::mbarrier_wait(pipeline.full(stage), blocks.at.parity);
    Levels levels;
    if constexpr (T::kHasLevels) {
      levels = sm90_load_levels(pipeline.levels(stage) + thread.tile() * 2 * kTileRows +
                                thread.row() + (thread.lane >> 2));
    }
#pragma unroll 1
    for (int half = 0; half < 2; ++half) {
      uint32_t a[2][4];
      expand<T::kKind>(
          *reinterpret_cast<const uint4*>(pipeline.weights(stage) + weights_at + half * kHalfBytes),
          levels, a[0], a[1]);
      const int chunk = (half * 4 + (thread.lane >> 3)) ^ ((thread.lane & 7));
      const uint8_t* inputs = pipeline.inputs(stage) + inputs_at + chunk * 16;
#pragma unroll
      for (int n = 0; n < T::kHighTokens / 8; ++n) {
        uint32_t b[4];
        prims::ldmatrix_x4(b, inputs + n * 8 * kBlockChannels);
        int32_t(&four)[4] = *reinterpret_cast<int32_t(*)[4]>(sums + n * 4);
        prims::mma_m16n8k32_s8(four, a[0], {b[0], b[1]});
        prims::mma_m16n8k32_s8(four, a[1], {b[2], b[3]});
      }
    }
    __syncwarp();
    if (releases && thread.lane == 0) prims::mbarrier_arrive(pipeline.empty(stage));
  }
}

/// Two pairs have sums of every other block: each gives away those of the other's tokens and adds
/// what it is given. Behind it the warp's turning space is free again.
template <class T>
__device__ __forceinline__ void sm90_exchange(const Sm90Pipeline<T>& pipeline,
                                              const int32_t (&sums)[T::kSums],
                                              int32_t (&own)[T::kOwnSums]) {
  const Sm90WideThread<T> thread;
  const bool is_second = thread.pair() == 1;
  const auto barrier = static_cast<uint32_t>(8 + (thread.group & 1));
  const auto space = [&](int group) {
    return reinterpret_cast<int4*>(pipeline.shared + T::kTurnAt +
                                   (group * 4 + thread.warp) * T::kTurnBytes) +
           thread.lane;
  };
  int32_t given[T::kOwnSums];
#pragma unroll
  for (int i = 0; i < T::kOwnSums; ++i) {
    own[i] = is_second ? sums[T::kOwnSums + i] : sums[i];
    given[i] = is_second ? sums[i] : sums[T::kOwnSums + i];
  }
  prims::named_barrier_sync(barrier, 256);  // the other has stored its tile before
  int4* to = space(thread.group ^ 2);
#pragma unroll
  for (int i = 0; i < T::kOwnSums / 4; ++i) {
    to[i * 32] = make_int4(given[i * 4], given[i * 4 + 1], given[i * 4 + 2], given[i * 4 + 3]);
  }
  prims::named_barrier_sync(barrier, 256);
  const int4* from = space(thread.group);
#pragma unroll
  for (int i = 0; i < T::kOwnSums / 4; ++i) {
    const int4 four = from[i * 32];
    own[i * 4] += four.x;
    own[i * 4 + 1] += four.y;
    own[i * 4 + 2] += four.z;
    own[i * 4 + 3] += four.w;
  }
  __syncwarp();
}

}  // namespace comet::formats::w4ax::cuda
