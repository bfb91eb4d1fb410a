// What the parts of gemm_sm90_chains.cuh share: sizes of a kernel, its shared memory, the work of a
// CTA. Callers: gemm_sm90_chains.cuh, gemm_sm90_chains_store.cuh.
#pragma once

#include <cuda.h>

#include "comet/device/cuda/prims/control.cuh"
#include "comet/device/cuda/prims/mbarrier.cuh"
#include "comet/formats/w4ax/cuda/chains/gemm_sm90_chains.h"
#include "comet/formats/w4ax/cuda/gemm_sm90.cuh"

namespace comet::formats::w4ax::cuda {

template <WeightKind kWeightKind, int kTileTokens>
struct ChainsTraits {
  static constexpr WeightKind kKind = kWeightKind;
  static constexpr int kTokens = kTileTokens;
  static constexpr bool kHasLevels = kKind == WeightKind::kProgressive;
  static constexpr bool kHasRowScales = kKind == WeightKind::kGroup;
  static constexpr bool kHasRowParams = kHasLevels || kHasRowScales;
  static constexpr int kConsumers = 256;
  static constexpr int kThreads = kConsumers + 128;
  static constexpr int kRoles = kHasRowParams ? 3 : 2;  // that fill a stage

  // Many tokens' sums are two sets: one is promoted while the other is multiplied.
  static constexpr int kSets = kTokens == 128 ? 2 : 1;
  static constexpr int kSetTokens = kTokens / kSets;
  static constexpr int kSums = kSetTokens / 2;  // of a thread and set
  // Sums of 16 rows × 8 tokens, 16 bytes a lane as products leave them, are a unit: those of 8
  // tokens of all 8 warps lie side by side, then those of the next 8.
  static constexpr int kGroups = kTokens / 8;
  static constexpr int kUnits = kConsumers / 32 * kGroups;
  // 16 · q is multiplied unless weights are progressive; the tokens' scales make up for it.
  static constexpr float kScaleUnit = kHasLevels ? 1.0F : 0.0625F;

  static constexpr int kCtasPerSm = chains_ctas_per_sm(kTokens);
  // Whether a CTA may have several tiles, one behind the other. Where two share an SM they need
  // not.
  static constexpr bool kWalks = chains_walk(kTokens);
  // Registers of a thread. Warpgroups share what the CTA was launched with, no more.
  static constexpr int kLaunchRegisters = kCtasPerSm == 2 ? 80 : 168;
  static constexpr int kConsumerRegisters = kCtasPerSm == 2 ? 96 : 224;
  static constexpr int kProducerRegisters = kCtasPerSm == 2 ? 48 : 56;
  static_assert(2 * kConsumerRegisters + kProducerRegisters <= 3 * kLaunchRegisters);

  static constexpr int kInputBytes = kTokens * kBlockChannels;
  static constexpr int kStageBytes = kInputBytes + kTileBytes;
  static constexpr int kParamBytes = kHasRowParams ? 2 * kTileRows : 0;  // of a stage
  // Scales of a chain: rows of a block's tokens, padded against bank conflicts of who fills them.
  static constexpr int kScalePitch = kTokens + 4;
  static constexpr int kScaleBytes = kBlocksOfChain * kScalePitch * 4;
  static constexpr int kScaleSlots = 3;
  static constexpr int kTotalBytes = kUnits * 32 * 16;
  static constexpr int kControlBytes = 256;

  static constexpr int kSharedLimit = 228 * 1024 / kCtasPerSm / 1024 * 1024 - 1024;
  static constexpr int kRoom =
      kSharedLimit - kScaleSlots * kScaleBytes - kTotalBytes - kControlBytes;
  static constexpr int kMaxStages = 10;
  static constexpr int kStagesThatFit = kRoom / (kStageBytes + kParamBytes);
  static constexpr int kStages = kStagesThatFit < kMaxStages ? kStagesThatFit : kMaxStages;
  static constexpr int kParamsAt = kStages * kStageBytes;
  static constexpr int kScalesAt = kParamsAt + kStages * kParamBytes;
  static constexpr int kTotalsAt = kScalesAt + kScaleSlots * kScaleBytes;
  static constexpr int kControlAt = kTotalsAt + kTotalBytes;
  static constexpr int kSharedBytes = kControlAt + kControlBytes;
  static_assert(kStages >= 4 && kStageBytes % 1024 == 0 && kScaleBytes % 16 == 0);
  static_assert(2 * (kStages + kScaleSlots) * 8 <= kControlBytes);
};

/// What the copy engine reads; boxes lie in shared memory as in global, but for those of codes.
struct ChainsMaps {
  CUtensorMap codes;   // bytes, boxes of 128 × kTokens, 128-byte swizzle
  CUtensorMap packed;  // boxes of a block, in rows of 2 KiB
  CUtensorMap params;  // rows of a tile and block: 128 F16 scales, or 128 multipliers
  CUtensorMap offset;  // likewise; progressive only
};
constexpr int kChainsMapBytes = 2048;  // of a row of `packed`
constexpr int kChainsMapRows = kTileBytes / kChainsMapBytes;

/// Where scales of a tile's token lie in their row: tokens 16i + 2q, + 1, + 8, + 9, which a lane of
/// quad q has of 16, side by side.
__device__ __forceinline__ constexpr int chains_scale_at(int token) {
  return (token & ~15) | (token >> 1 & 3) << 2 | (token >> 3 & 1) << 1 | (token & 1);
}

template <class T>
struct ChainsPipeline {
  uint8_t* shared;

  __device__ uint8_t* inputs(int stage) const { return shared + stage * T::kStageBytes; }
  __device__ uint8_t* weights(int stage) const { return inputs(stage) + T::kInputBytes; }
  __device__ uint8_t* params(int stage) const {
    return shared + T::kParamsAt + stage * T::kParamBytes;
  }
  /// Of a block of a chain.
  __device__ float* scales(int slot, int block) const {
    return reinterpret_cast<float*>(shared + T::kScalesAt + slot * T::kScaleBytes) +
           block * T::kScalePitch;
  }
  __device__ float4* totals() const { return reinterpret_cast<float4*>(shared + T::kTotalsAt); }
  __device__ uint64_t* full(int stage) const {
    return reinterpret_cast<uint64_t*>(shared + T::kControlAt) + stage;
  }
  __device__ uint64_t* empty(int stage) const { return full(T::kStages + stage); }
  __device__ uint64_t* scales_full(int slot) const { return full(2 * T::kStages + slot); }
  __device__ uint64_t* scales_empty(int slot) const { return scales_full(T::kScaleSlots + slot); }
};

/// All threads. Every role fills a stage, every warp of consumers frees it; all lanes of a warp
/// fill a chain's scales, all consumers free them.
template <class T>
__device__ __forceinline__ void chains_init_barriers(const ChainsPipeline<T>& pipeline) {
  if (threadIdx.x / 32 == T::kConsumers / 32 && prims::elect_one()) {
#pragma unroll
    for (int stage = 0; stage < T::kStages; ++stage) {
      prims::mbarrier_init(pipeline.full(stage), T::kRoles);
      prims::mbarrier_init(pipeline.empty(stage), T::kConsumers / 32);
    }
#pragma unroll
    for (int slot = 0; slot < T::kScaleSlots; ++slot) {
      prims::mbarrier_init(pipeline.scales_full(slot), 32);
      prims::mbarrier_init(pipeline.scales_empty(slot), T::kConsumers);
    }
    prims::mbarrier_init_fence();
  }
  __syncthreads();
}

/// A place in a ring, and the parity of the phase in which it is filled.
template <int kCount>
struct ChainsRing {
  int at = 0;
  uint32_t parity = 0;
  __device__ __forceinline__ void advance() {
    if (++at == kCount) {
      at = 0;
      parity ^= 1U;
    }
  }
};

/// Blocks begin … end − 1 of a tile, whole chains.
struct ChainsWork {
  int tile;
  int begin, end;
};

/// The work of a CTA; producers and consumers each walk over it.
struct ChainsGrid {
  Sm90Grid tiles;
  int num_splits;
  int num_chains;

  __host__ __device__ int num_tiles() const { return tiles.row_tiles * tiles.token_tiles; }

  __device__ __forceinline__ ChainsWork work_of(const GemmArgs& args, int tile) const {
    const int rank = static_cast<int>(blockIdx.x) % num_splits;
    const int begin = num_chains * rank / num_splits * kBlocksOfChain;
    const int end = num_chains * (rank + 1) / num_splits * kBlocksOfChain;
    return {tile, begin, end < args.blocks ? end : args.blocks};
  }

  /// act(work) for every tile of the CTA's.
  template <class T, class Do>
  __device__ __forceinline__ void for_each_work(const GemmArgs& args, const Do& act) const {
    const int first = static_cast<int>(blockIdx.x) / num_splits;
    if constexpr (!T::kWalks) {
      act(work_of(args, first));
    } else {
      const int step = static_cast<int>(gridDim.x) / num_splits;
#pragma unroll 1
      for (int tile = first; tile < num_tiles(); tile += step) act(work_of(args, tile));
    }
  }
};

}  // namespace comet::formats::w4ax::cuda
