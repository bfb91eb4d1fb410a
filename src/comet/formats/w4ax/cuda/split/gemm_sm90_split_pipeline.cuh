// What producer and consumers of gemm_sm90_split.cuh share: sizes, a CTA's work, its stages in
// shared memory and their barriers. Callers: gemm_sm90_split.cuh.
#pragma once

#include <cuda.h>

#include "comet/formats/w4ax/cuda/nibbles.cuh"
#include "comet/formats/w4ax/cuda/split/gemm_sm90_split.h"

namespace comet::formats::w4ax::cuda {

template <WeightKind kWeightKind, int kRowsValue, int kTokensValue, int kTeamsValue,
          bool kTwoSegmentsValue, bool kIsAloneValue = false>
struct SplitTraits {
  static constexpr WeightKind kKind = kWeightKind;
  static constexpr int kRows = kRowsValue;
  static constexpr int kTokens = kTokensValue;
  static constexpr int kTeams = kTeamsValue;
  static constexpr bool kTwoSegments = kTwoSegmentsValue;
  static constexpr bool kIsAlone = kIsAloneValue;  // on its SM
  static constexpr bool kHasLevels = kKind == WeightKind::kProgressive;
  static constexpr int kTeamWarps = kRows / 16;
  static constexpr int kConsumers = 32 * kTeamWarps * kTeams;
  static constexpr int kProducers = 2;  // warps
  static constexpr int kThreads = kConsumers + 32 * kProducers;
  static constexpr int kSums = kTokens / 2;  // of a thread
  static constexpr int kCtasPerSm = kIsAlone ? 1 : split_ctas_per_sm(kRows, kTokens, kTeams);
  static constexpr int kPacked = kTileRows / kRows;  // tiles in a packed one

  static constexpr int kInputBytes = kTokens * kBlockChannels;
  static constexpr int kWeightBytes = kTileBytes / kPacked;
  static constexpr int kStageBytes = kInputBytes + kWeightBytes;
  // Sums of a team: 16 rows after the other, of each 8 tokens after the other, which are a unit: 16
  // bytes a lane, as products leave them. A warp stores kBatch units of the same rows at a time.
  static constexpr int kGroups = kTokens / 8;
  static constexpr int kUnits = kTeamWarps * kGroups;
  static constexpr int kBatch = kIsAlone && kTokens == 64 ? 2 : 1;
  // Where sums or teams are many, the sums that other CTAs store are added up before they read: the
  // way from CTA to CTA is narrow (docs/kernels/w4ax_sm90.md).
  static constexpr bool kAddsTeams = kTeams == 4 || (kTeams > 1 && kTokens == 64);
  static constexpr int kSumsBytes = kUnits * 32 * 16;
  // Sums of the INT4 segment wait in registers where there are enough, else in shared memory.
  static constexpr bool kHoldsSums = kTwoSegments && kIsAlone;
  static constexpr int kParkedBytes = kTwoSegments && !kHoldsSums ? kTeams * kSumsBytes : 0;
  static constexpr int kEndBytes = 2 * kRows * 4 + kTokens * 8 + 32;
  static constexpr int kControlBytes = kRows == kTileRows ? 256 : 512;

  static constexpr int kSharedLimit = 228 * 1024 / kCtasPerSm / 1024 * 1024 - 1024;
  static constexpr int kRoom = kSharedLimit - kParkedBytes - kEndBytes - kControlBytes;
  static constexpr int kMaxStages = kRows == kTileRows ? 10 : (kIsAlone && kTokens < 64 ? 24 : 17);
  // Levels by blocks, those of kLevelBlocks in one copy. A CTA alone on its SM has room for those
  // of all its blocks. Else they are a ring, where those of a group may be overwritten when its
  // last block has been released, which the producer knows of blocks kStages before the one it
  // loads.
  static constexpr bool kHasAllLevels = kHasLevels && kIsAlone;
  static constexpr int kLevelBlocks = kHasAllLevels ? 16 : 4;
  static constexpr int kLevelBytes = 2 * kLevelBlocks * kRows;
  static constexpr int level_ring(int stages) {
    if (kHasAllLevels) return kMostAloneBlocks;
    return kHasLevels ? (stages + 2 * kLevelBlocks - 2) / kLevelBlocks * kLevelBlocks : 0;
  }
  static constexpr int most_stages() {
    int stages = kMaxStages;
    while (stages * kStageBytes + level_ring(stages) * 2 * kRows > kRoom) --stages;
    return stages / kTeams * kTeams;
  }
  // A stage is always the same team's: a wait names a phase by its parity, so that a team that came
  // by every second time would take the end of the phase before the other team's for its own.
  static constexpr int kStages = most_stages();
  static_assert(kStages % kTeams == 0);
  static constexpr int kLevelRing = level_ring(kStages);
  static constexpr int kLevelsAt = kStages * kStageBytes;
  static constexpr int kEndAt = kLevelsAt + kLevelRing * 2 * kRows + kParkedBytes;
  static constexpr int kParkedAt = kHoldsSums ? kTeams * kSumsBytes : kEndAt - kParkedBytes;
  static constexpr int kControlAt = kEndAt + kEndBytes;
  static constexpr int kSharedBytes = kControlAt + kControlBytes;
  static_assert(kStages >= 4 && kStages > 2 * kTeams && kStageBytes % 1024 == 0);
  static_assert(kRows == kTileRows || kRows == kTileRows / 2);
  static_assert((kHoldsSums ? 2 : 1) * kTeams * kSumsBytes <= kStages * kStageBytes,
                "sums take the place of stages");
  static_assert(!kHasLevels || kLevelRing >= kStages + kLevelBlocks - 1);
  static_assert(kHasAllLevels || kLevelBlocks % kTeams == 0);
  static_assert(kLevelRing % kLevelBlocks == 0);
  static_assert(kEndBytes % 16 == 0 &&
                (2 * kStages + kLevelRing / kLevelBlocks) * 8 <= kControlBytes);
};

/// Packed weights as rows of a map: a block of the tile is one box. Of half a packed tile it lies
/// in two pieces, one in each half of the packed tile's block.
template <class T>
struct SplitPackedMap {
  static constexpr int kBoxBytes = 2048;
  static constexpr int kRowBytes = T::kPacked * kBoxBytes;
  static constexpr int kRowsOfBlock = kTileBytes / kRowBytes;
  static_assert(T::kWeightBytes == kRowsOfBlock * kBoxBytes);
  /// Of the tile that begins at `row` of a packed one, in elements of 8 bytes.
  static __device__ __forceinline__ int x_of(int row) { return row / 64 * (kBoxBytes / 8); }
};

/// What the copy engine reads; boxes lie in shared memory as in global, but for those of codes.
struct SplitMaps {
  CUtensorMap codes;       // bytes, boxes of 128 × kTokens, 128-byte swizzle
  CUtensorMap packed;      // boxes of a block
  CUtensorMap multiplier;  // boxes of a tile's rows × kLevelBlocks; progressive only
  CUtensorMap offset;      // likewise
};

/// What a CTA does: blocks begin … end − 1 of a tile of kRows, which begins at `row` of a packed
/// one.
template <class T>
struct SplitWork {
  int num_splits;
  int rank;
  int tile;
  int row;
  int begin;
  int end;

  __device__ SplitWork(const GemmArgs& args, int splits) : num_splits(splits) {
    rank = static_cast<int>(blockIdx.x) % splits;
    const int idx = static_cast<int>(blockIdx.x) / splits;
    tile = idx / T::kPacked;
    row = idx % T::kPacked * T::kRows;
    begin = args.blocks * rank / splits;
    end = args.blocks * (rank + 1) / splits;
  }
  __device__ int num_blocks() const { return end - begin; }
};

/// What the end of the tile asks for, in shared memory by then.
template <class T>
struct SplitEnd {
  float scale[T::kRows];
  float bias[T::kRows];
  float2 token_scales[T::kTokens];  // of the INT4, of the INT8 segment
  OutputTile tile;
  // CTAs before this one have blocks of the INT4 segment, from the other one on of the INT8
  // segment.
  int32_t low_end;
  int32_t high_begin;
  // Units of the tile's sums (SplitTraits) that this CTA stores: whole batches.
  int32_t unit_begin;
  int32_t unit_end;
};

template <class T>
struct SplitPipeline {
  uint8_t* shared;

  __device__ uint8_t* inputs(int stage) const { return shared + stage * T::kStageBytes; }
  __device__ uint8_t* weights(int stage) const { return inputs(stage) + T::kInputBytes; }
  /// Multipliers of a tile's rows; kLevelOffset bytes further their offsets. `at`: of the ring.
  __device__ uint8_t* levels(int at) const { return shared + T::kLevelsAt + at * T::kRows; }
  static constexpr int kLevelOffset = T::kLevelRing * T::kRows;
  /// Sums of the only segment, or of the INT8 one; they lie over the stages.
  __device__ int32_t* sums() const { return reinterpret_cast<int32_t*>(shared); }
  /// Sums of the INT4 segment where an INT8 one follows.
  __device__ int32_t* parked() const { return reinterpret_cast<int32_t*>(shared + T::kParkedAt); }
  __device__ SplitEnd<T>& end() const {
    static_assert(sizeof(SplitEnd<T>) <= T::kEndBytes);
    return *reinterpret_cast<SplitEnd<T>*>(shared + T::kEndAt);
  }
  __device__ uint64_t* full(int stage) const {
    return reinterpret_cast<uint64_t*>(shared + T::kControlAt) + stage;
  }
  __device__ uint64_t* empty(int stage) const { return full(T::kStages + stage); }
  /// Levels of a group of blocks are there; `at`: of any of them.
  __device__ uint64_t* levels_full(int at) const {
    return full(2 * T::kStages + at / T::kLevelBlocks);
  }
};

/// The blocks of a CTA one by one (the producer), or every kTeams-th (a team).
template <class T>
struct SplitCursor {
  int block;  // from the CTA's first on
  int stage;
  uint32_t parity = 0;

  __device__ explicit SplitCursor(int first) : block(first), stage(first) {}
  template <int kStep>
  __device__ __forceinline__ void advance() {
    block += kStep;
    stage += kStep;
    if (stage >= T::kStages) {
      stage -= T::kStages;
      parity ^= 1U;
    }
  }
};

}  // namespace comet::formats::w4ax::cuda
