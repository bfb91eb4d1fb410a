// y = x · Wᵀ of w4ax for at most 64 tokens, K split over a cluster; wgmma m64nNk32 on signed bytes,
// sm_90a. Callers: gemm_sm90_split.cu.
//
// Operands: as in gemm_sm90.cuh: weights are A from registers, codes B; all by tensor copies.
// Levels of progressive weights come for kLevelBlocks blocks at once: fewer copies to issue.
// Grid: a cluster of num_splits CTAs for every tile of kRows (128, or one half of a packed tile);
//   CTA `rank` has blocks · rank / num_splits … and all tokens. A CTA has one piece of work, so
//   that stages are filled from 0 on. Or of two neighbouring tiles, whose CTAs of a rank have the
//   same codes: each copies half of a block's tokens into both (kSharing).
// Roles: kTeams teams of consumer warpgroups, 64 rows a warpgroup; block i of the CTA goes to team
//   i % kTeams. Two warps more: a lane of one copies weights, of the other codes and levels, since
//   what a lane does for a copy takes longer than the copy; the other also fetches what the end
//   asks for.
// A block in a consumer: two batches of 64 channels; nibbles of one are expanded while wgmma works
//   on the one before, those of the next are read meanwhile.
// Start: may overlap the end of the kernel before, which made the codes; weights of all stages are
//   on their way by then. The next launch may overlap this one likewise.
// End: int32 sums of every team (and segment) go to shared memory; each CTA adds a share of the
//   tile's from all CTAs of the cluster, scales and stores it. Exact, so in any order.
// Floor: packed bytes / copy rate; prediction and outcome: docs/kernels/w4ax_sm90.md.
#pragma once

#include "comet/device/cuda/prims/bulk_copy.cuh"
#include "comet/device/cuda/prims/cluster.cuh"
#include "comet/device/cuda/prims/control.cuh"
#include "comet/device/cuda/prims/mbarrier.cuh"
#include "comet/device/cuda/prims/wgmma.cuh"
#include "comet/device/cuda/prims/wgmma_s8.cuh"
#include "comet/device/cuda/tensor_map.h"
#include "comet/formats/w4ax/cuda/gemm_sm90_split_pipeline.cuh"

namespace comet::formats::w4ax::cuda {

// ---- Producers: two warps, a lane of each issues copies

template <class T>
__device__ __forceinline__ void split_load_weights(const GemmArgs& args, const SplitWork<T>& work,
                                                   const SplitPipeline<T>& pipeline,
                                                   const SplitCursor<T>& at,
                                                   const SplitMaps& maps) {
  constexpr int kMapRows = kTileBytes / kMapRowBytes;  // of a block of a packed tile
  const int map_row = (work.tile * args.blocks + work.begin + at.block) * kMapRows + work.row / 4;
  uint64_t* full = pipeline.full(at.stage);
  uint8_t* weights = pipeline.weights(at.stage);
  prims::mbarrier_arrive_expect_tx(full, T::kWeightBytes);
#pragma unroll
  for (int piece = 0; piece < T::kPacked; ++piece) {
    prims::tensor_load_2d_hint(weights + piece * T::kCopyBytes, &maps.packed, 0,
                               map_row + piece * (kHalfBytes / kMapRowBytes), full,
                               prims::kEvictFirst);
  }
}

/// Levels of the group that begins with this block.
template <class T>
__device__ __forceinline__ void split_load_levels(const SplitWork<T>& work,
                                                  const SplitPipeline<T>& pipeline, int first,
                                                  const SplitMaps& maps) {
  const int ring_idx = first % T::kLevelRing;
  uint64_t* full = pipeline.levels_full(ring_idx);
  uint8_t* levels = pipeline.levels(ring_idx);
  const int row = work.tile * kTileRows;
  prims::mbarrier_arrive_expect_tx(full, T::kLevelBytes);
  prims::tensor_load_2d(levels, &maps.multiplier, row, work.begin + first, full);
  prims::tensor_load_2d(levels + pipeline.kLevelOffset, &maps.offset, row, work.begin + first,
                        full);
}

template <class T>
__device__ __forceinline__ void split_load_inputs(const SplitWork<T>& work,
                                                  const SplitPipeline<T>& pipeline,
                                                  const SplitCursor<T>& at, const SplitMaps& maps) {
  uint8_t* inputs = pipeline.inputs(at.stage);
  uint64_t* full = pipeline.full(at.stage);
  const int channel = (work.begin + at.block) * kBlockChannels;
  prims::mbarrier_arrive_expect_tx(full, T::kInputBytes);
  if constexpr (T::kSharing == 1) {
    prims::tensor_load_2d_hint(inputs, &maps.codes, channel, 0, full, prims::kEvictLast);
  } else {
    prims::tensor_load_2d_multicast(inputs + work.share * (T::kInputBytes / 2), &maps.codes,
                                    channel, work.share * (T::kTokens / 2), full,
                                    static_cast<uint16_t>(3U << work.rank * 2));
  }
}

/// Scales and biases of the tile's rows, four a lane.
template <class T>
__device__ __forceinline__ void split_fetch_rows(const GemmArgs& args, const SplitWork<T>& work,
                                                 SplitEnd<T>& end, int lane) {
  const OutputTile tile = args.tiles[work.tile];
  const int row = lane * 4;
  if (row < T::kRows) {
    *reinterpret_cast<float4*>(end.scale + row) = *reinterpret_cast<const float4*>(
        args.channel_scale + work.tile * kTileRows + work.row + row);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int in_tile = work.row + row + i;
      const bool has_bias = args.bias != nullptr && in_tile < tile.num_rows;
      end.bias[row + i] = has_bias ? args.bias[tile.column + in_tile] : 0.0F;
    }
  }
  if (lane == 0) end.tile = {tile.column + work.row, tile.num_rows - work.row};
}

template <class T>
__device__ __forceinline__ void split_fetch_token_scales(const GemmArgs& args, SplitEnd<T>& end,
                                                         int lane) {
  for (int token = lane; token < args.tokens; token += 32) {
    end.token_scales[token] = __ldcg(reinterpret_cast<const float2*>(args.x_scales) + token);
  }
}

/// Of a stage's first filling nothing is waited for. Weights do not depend on the kernel before,
/// which makes the codes: those of all stages are on their way before it has ended.
template <class T>
__device__ __forceinline__ void split_produce_weights(const GemmArgs& args,
                                                      const SplitWork<T>& work,
                                                      const SplitPipeline<T>& pipeline,
                                                      const SplitMaps& maps) {
  // Elected, so that ptxas makes no loop over lanes of each copy (gemm_sm90.cuh).
  if (prims::elect_one()) {
    const int num_blocks = work.num_blocks();
    SplitCursor<T> at(0);
    for (; at.block < num_blocks; at.template advance<1>()) {
      prims::mbarrier_wait(pipeline.empty(at.stage), at.parity ^ 1U);
      split_load_weights<T>(args, work, pipeline, at, maps);
    }
    if constexpr (T::kSharing > 1) {
      // The other CTA's arrivals are in before this one ends and its barriers are gone.
      for (; at.block < num_blocks + T::kStages; at.template advance<1>()) {
        prims::mbarrier_wait(pipeline.empty(at.stage), at.parity ^ 1U);
      }
    }
  }
  __syncwarp();
}

/// Codes, levels and what the end asks for. Levels of a group are overwritten when the group's last
/// block has been released: every stage is waited for, in order, and none is full without its
/// codes.
template <class T>
__device__ __forceinline__ void split_produce_inputs(const GemmArgs& args, const SplitWork<T>& work,
                                                     const SplitPipeline<T>& pipeline,
                                                     const SplitMaps& maps) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int num_blocks = work.num_blocks();
  const int num_early = num_blocks < T::kStages ? num_blocks : T::kStages;
  const bool copies = prims::elect_one();
  if (copies) {
    prims::tensor_map_prefetch(&maps.codes);
    if constexpr (T::kHasLevels) {
      for (int first = 0; first < num_early; first += T::kLevelBlocks) {
        split_load_levels<T>(work, pipeline, first, maps);
      }
    }
  }
  __syncwarp();
  split_fetch_rows<T>(args, work, pipeline.end(), lane);
  prims::wait_for_previous_kernel();
  SplitCursor<T> at(0);
  if (copies) {
    for (; at.block < num_early; at.template advance<1>()) {
      split_load_inputs<T>(work, pipeline, at, maps);
    }
  }
  __syncwarp();
  split_fetch_token_scales<T>(args, pipeline.end(), lane);
  if (copies) {
    // Here stage 0 is filled for the second time: the first phase of its `empty` is waited for.
    for (; at.block < num_blocks; at.template advance<1>()) {
      prims::mbarrier_wait(pipeline.empty(at.stage), at.parity ^ 1U);
      split_load_inputs<T>(work, pipeline, at, maps);
      if constexpr (T::kHasLevels) {
        if (at.block % T::kLevelBlocks == 0) {
          split_load_levels<T>(work, pipeline, at.block, maps);
        }
      }
    }
  }
  __syncwarp();
}

template <class T>
__device__ __forceinline__ void split_produce(const GemmArgs& args, const SplitWork<T>& work,
                                              const SplitPipeline<T>& pipeline,
                                              const SplitMaps& maps) {
  if (threadIdx.x / 32 == T::kConsumers / 32) {
    split_produce_weights<T>(args, work, pipeline, maps);
  } else {
    split_produce_inputs<T>(args, work, pipeline, maps);
  }
}

// ---- Consumers

/// The team of this thread, in a way that lets the compiler see that a warp has one (descriptors of
/// wgmma are made in uniform registers, else products are serialized).
template <class T>
__device__ __forceinline__ int split_team() {
  if constexpr (T::kTeams == 1) return 0;
  return __shfl_sync(0xFFFFFFFF, static_cast<int>(threadIdx.x) / (32 * T::kTeamWarps), 0);
}

/// This warp has read the stage: also said to who copies codes into it.
template <class T>
__device__ __forceinline__ void split_release(const SplitPipeline<T>& pipeline, int stage) {
  const uint32_t lane = threadIdx.x % 32;
  if constexpr (T::kSharing == 1) {
    if (lane == 0) prims::mbarrier_arrive(pipeline.empty(stage));
  } else {
    // Lanes 0 and 1, each in one of the two CTAs.
    if (lane < 2) {
      prims::cluster_arrive_read(pipeline.empty(stage), pipeline.first_cta + lane);
    }
  }
}

/// This lane's nibbles of half a block.
template <class T>
__device__ __forceinline__ uint4 split_nibbles(const SplitPipeline<T>& pipeline, int stage,
                                               int half) {
  const int unit = static_cast<int>(threadIdx.x) / 32 % T::kTeamWarps;  // 16 rows
  const int lane = static_cast<int>(threadIdx.x) % 32;
  return *reinterpret_cast<const uint4*>(pipeline.weights(stage) + half * (T::kWeightBytes / 2) +
                                         unit * kUnitBytes + lane * 16);
}

/// This lane's levels of a block; `row`: that the tile begins with in the packed one. A team waits
/// for a group's with the first block that it has of it.
template <class T>
__device__ __forceinline__ Levels split_levels(const SplitPipeline<T>& pipeline, int block,
                                               int row) {
  if constexpr (!T::kHasLevels) {
    return {};
  } else {
    const int ring_idx = block % T::kLevelRing;
    if (ring_idx % T::kLevelBlocks < T::kTeams) {
      prims::mbarrier_wait(pipeline.levels_full(ring_idx),
                           static_cast<uint32_t>(block / T::kLevelRing) & 1U);
    }
    const int unit = static_cast<int>(threadIdx.x) / 32 % T::kTeamWarps;
    return load_levels(pipeline.levels(ring_idx), row + unit * 16,
                       static_cast<int>(threadIdx.x) % 32 / 4, pipeline.kLevelOffset);
  }
}

template <class T>
__device__ __forceinline__ void split_multiply_half(uint64_t inputs, int half, const uint4& raw,
                                                    const Levels& levels, uint32_t (&a)[2][4],
                                                    int32_t (&sums)[T::kSums]) {
  expand<T::kKind>(raw, levels, a[0], a[1]);
  prims::wgmma_pin(a[0]);
  prims::wgmma_pin(a[1]);
  prims::wgmma_fence();
#pragma unroll
  for (int step = 0; step < 2; ++step) {
    prims::WgmmaS8<T::kTokens>::rs(
        sums, a[step], prims::wgmma_advance(inputs, static_cast<uint32_t>(half * 64 + step * 32)),
        1);
  }
  prims::wgmma_commit();
}

/// What a lane reads of a block.
struct SplitBlock {
  uint4 raw[2];  // halves
  Levels levels;
};

template <class T>
__device__ __forceinline__ SplitBlock split_read(const SplitPipeline<T>& pipeline, int row,
                                                 int block, int stage, uint32_t parity) {
  prims::mbarrier_wait(pipeline.full(stage), parity);
  return {{split_nibbles<T>(pipeline, stage, 0), split_nibbles<T>(pipeline, stage, 1)},
          split_levels<T>(pipeline, block, row)};
}

/// sums += this team's blocks before `end`. On return nothing is under way. A block is read before
/// the one before it is expanded, and a stage released in the next block: 2 · kTeams stages are
/// in use.
template <class T>
__device__ __forceinline__ void split_multiply(const SplitPipeline<T>& pipeline, int row,
                                               SplitCursor<T>& at, int end,
                                               int32_t (&sums)[T::kSums]) {
  const int num_blocks = (end - at.block + T::kTeams - 1) / T::kTeams;
  if (num_blocks <= 0) return;
  prims::wgmma_pin(sums);  // zeros are made here, not between products, which would serialize them
  uint32_t a[2][2][4];     // of either half of a block: k32 steps of low, high nibbles
  SplitBlock block = split_read<T>(pipeline, row, at.block, at.stage, at.parity);
  int before = at.stage;
#pragma unroll 1
  for (int i = 0; i < num_blocks; ++i) {
    const int stage = at.stage;
    const uint64_t inputs = prims::wgmma_descriptor_k128(pipeline.inputs(stage));
    SplitCursor<T> next = at;
    next.template advance<T::kTeams>();
    const bool has_next = i + 1 < num_blocks;  // else the same block again
    const SplitBlock next_block =
        split_read<T>(pipeline, row, has_next ? next.block : at.block,
                      has_next ? next.stage : stage, has_next ? next.parity : at.parity);
    at = next;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      prims::wgmma_wait<1>();  // the batch that read a[half] is through
      if (half == 1 && i > 0) split_release<T>(pipeline, before);
      split_multiply_half<T>(inputs, half, block.raw[half], block.levels, a[half], sums);
    }
    before = stage;
    block = next_block;
  }
  prims::wgmma_wait<0>();
  prims::wgmma_pin(sums);
  split_release<T>(pipeline, before);
}

/// A team's fragments → its place in `area`.
template <class T>
__device__ __forceinline__ void split_write_sums(int32_t* area, const int32_t (&sums)[T::kSums]) {
  const int team = split_team<T>();
  const int unit = static_cast<int>(threadIdx.x) / 32 % T::kTeamWarps;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  int32_t* to = area + team * (T::kSumsBytes / 4) + lane % 4 * 2 * T::kPitch + unit * 16 + lane / 4;
#pragma unroll
  for (int i = 0; i < T::kTokens / 8; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      to[(i * 8 + j % 2) * T::kPitch + j / 2 * 8] = sums[i * 4 + j];
    }
  }
}

/// All blocks of the CTA; its sums lie in shared memory behind the next barrier.
template <class T>
__device__ __forceinline__ void split_consume(const GemmArgs& args, const SplitWork<T>& work,
                                              const SplitPipeline<T>& pipeline) {
  int32_t sums[T::kSums] = {};
  SplitCursor<T> at(split_team<T>());
  if constexpr (T::kHoldsSums) {
    int32_t low[T::kSums] = {};
    const int border = min(args.int4_blocks - work.begin, work.num_blocks());  // or none before it
    split_multiply<T>(pipeline, work.row, at, border, low);
    split_multiply<T>(pipeline, work.row, at, work.num_blocks(), sums);
    prims::named_barrier_sync(1, T::kConsumers);  // no one reads stages any more
    if (work.begin < args.int4_blocks) split_write_sums<T>(pipeline.parked(), low);
    if (work.end > args.int4_blocks) split_write_sums<T>(pipeline.sums(), sums);
    return;
  } else if constexpr (T::kTwoSegments) {
    if (work.begin < args.int4_blocks) {
      const int border = args.int4_blocks - work.begin;
      split_multiply<T>(pipeline, work.row, at,
                        border < work.num_blocks() ? border : work.num_blocks(), sums);
      split_write_sums<T>(pipeline.parked(), sums);
#pragma unroll
      for (int i = 0; i < T::kSums; ++i) sums[i] = 0;
    }
  }
  split_multiply<T>(pipeline, work.row, at, work.num_blocks(), sums);
  prims::named_barrier_sync(1, T::kConsumers);  // no one reads stages any more
  if (!T::kTwoSegments || work.end > args.int4_blocks) split_write_sums<T>(pipeline.sums(), sums);
}

}  // namespace comet::formats::w4ax::cuda
