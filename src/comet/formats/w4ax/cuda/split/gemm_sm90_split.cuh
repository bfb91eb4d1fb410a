// y = x · Wᵀ of w4ax for at most 64 tokens, K split over a cluster; wgmma m64nNk32 on signed bytes,
// sm_90a. Callers: gemm_sm90_split.cu.
//
// Operands: as in gemm_sm90.cuh: weights are A from registers, codes B; all by tensor copies.
//   Levels of progressive weights come for kLevelBlocks blocks at once, all of them at the start
//   where a CTA is alone on its SM.
// Grid: a cluster of num_splits CTAs for every tile of kRows (128, or one half of a packed tile);
//   CTA `rank` has blocks · rank / num_splits … and all tokens. A CTA has one piece of work, so
//   that stages are filled from 0 on.
// Roles: kTeams teams of consumer warpgroups, 64 rows a warpgroup; block i of the CTA goes to team
//   i % kTeams. Two warps more: a lane of one copies weights, of the other codes and levels, since
//   what a lane does for a copy takes longer than the copy; the other also fetches what the end
//   asks for.
// A block in a consumer: two batches of 64 channels; nibbles of one are expanded while wgmma works
//   on the one before, those of the next are read meanwhile.
// Start: may overlap the end of the kernel before, which made the codes; weights of all stages are
//   on their way by then. The next launch may overlap this one likewise.
// End: int32 sums of every team (and segment) go to shared memory; teams' sums of what other CTAs
//   store become one; each CTA adds a share of the tile's from all CTAs of the cluster, scales and
//   stores it. Exact, so in any order.
// Floor: packed bytes / copy rate; prediction and outcome: docs/kernels/w4ax_sm90.md.
#pragma once

#include <type_traits>

#include "comet/device/cuda/prims/bulk_copy.cuh"
#include "comet/device/cuda/prims/cluster.cuh"
#include "comet/device/cuda/prims/control.cuh"
#include "comet/device/cuda/prims/mbarrier.cuh"
#include "comet/device/cuda/prims/wgmma.cuh"
#include "comet/device/cuda/prims/wgmma_s8.cuh"
#include "comet/device/cuda/tensor_map.h"
#include "comet/formats/w4ax/cuda/split/gemm_sm90_split_pipeline.cuh"

namespace comet::formats::w4ax::cuda {

// ---- Producers: two warps, a lane of each issues copies

template <class T>
__device__ __forceinline__ void split_load_weights(const GemmArgs& args, const SplitWork<T>& work,
                                                   const SplitPipeline<T>& pipeline,
                                                   const SplitCursor<T>& at,
                                                   const SplitMaps& maps) {
  const int block = work.tile * args.blocks + work.begin + at.block;
  uint64_t* full = pipeline.full(at.stage);
  prims::mbarrier_arrive_expect_tx(full, T::kWeightBytes);
  prims::tensor_load_2d_hint(pipeline.weights(at.stage), &maps.packed,
                             SplitPackedMap<T>::x_of(work.row),
                             block * SplitPackedMap<T>::kRowsOfBlock, full, prims::kEvictFirst);
}

/// Levels of the group that begins with this block, which `full` expects.
template <class T>
__device__ __forceinline__ void split_copy_levels(const SplitWork<T>& work,
                                                  const SplitPipeline<T>& pipeline, int first,
                                                  uint64_t* full, const SplitMaps& maps) {
  uint8_t* levels = pipeline.levels(first % T::kLevelRing);
  const int x = (work.tile * kTileRows + work.row) / 8;
  prims::tensor_load_2d(levels, &maps.multiplier, x, work.begin + first, full);
  prims::tensor_load_2d(levels + pipeline.kLevelOffset, &maps.offset, x, work.begin + first, full);
}

template <class T>
__device__ __forceinline__ void split_load_levels(const SplitWork<T>& work,
                                                  const SplitPipeline<T>& pipeline, int first,
                                                  const SplitMaps& maps) {
  uint64_t* full = pipeline.levels_full(first % T::kLevelRing);
  prims::mbarrier_arrive_expect_tx(full, T::kLevelBytes);
  split_copy_levels<T>(work, pipeline, first, full, maps);
}

/// What of them is asked for at the start: those of all stages, or all.
template <class T>
__device__ __forceinline__ void split_load_first_levels(const SplitWork<T>& work,
                                                        const SplitPipeline<T>& pipeline,
                                                        int num_early, const SplitMaps& maps) {
  if constexpr (T::kHasAllLevels) {
    const int num_groups = (work.num_blocks() + T::kLevelBlocks - 1) / T::kLevelBlocks;
    uint64_t* full = pipeline.levels_full(0);
    prims::mbarrier_arrive_expect_tx(full, static_cast<uint32_t>(num_groups * T::kLevelBytes));
    for (int i = 0; i < num_groups; ++i) {
      split_copy_levels<T>(work, pipeline, i * T::kLevelBlocks, full, maps);
    }
  } else if constexpr (T::kHasLevels) {
    for (int first = 0; first < num_early; first += T::kLevelBlocks) {
      split_load_levels<T>(work, pipeline, first, maps);
    }
  }
}

template <class T>
__device__ __forceinline__ void split_load_inputs(const SplitWork<T>& work,
                                                  const SplitPipeline<T>& pipeline,
                                                  const SplitCursor<T>& at, const SplitMaps& maps) {
  uint64_t* full = pipeline.full(at.stage);
  prims::mbarrier_arrive_expect_tx(full, T::kInputBytes);
  prims::tensor_load_2d_hint(pipeline.inputs(at.stage), &maps.codes,
                             (work.begin + at.block) * kBlockChannels, 0, full, prims::kEvictLast);
}

/// Four of the tile's rows, on their way from memory.
struct SplitRows {
  OutputTile tile;
  float4 scale;
};

template <class T>
__device__ __forceinline__ SplitRows split_ask_rows(const GemmArgs& args, const SplitWork<T>& work,
                                                    int lane) {
  SplitRows rows{args.tiles[work.tile], {}};
  if (lane * 4 < T::kRows) {
    rows.scale = *reinterpret_cast<const float4*>(args.channel_scale + work.tile * kTileRows +
                                                  work.row + lane * 4);
  }
  return rows;
}

/// Scales and biases of the tile's rows, four a lane.
template <class T>
__device__ __forceinline__ void split_put_rows(const GemmArgs& args, const SplitWork<T>& work,
                                               const SplitRows& rows, SplitEnd<T>& end, int lane) {
  const OutputTile& tile = rows.tile;
  const int row = lane * 4;
  if (row < T::kRows) {
    *reinterpret_cast<float4*>(end.scale + row) = rows.scale;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int in_tile = work.row + row + i;
      const bool has_bias = args.bias != nullptr && in_tile < tile.num_rows;
      end.bias[row + i] = has_bias ? args.bias[tile.column + in_tile] : 0.0F;
    }
  }
  if (lane == 0) end.tile = {tile.column + work.row, tile.num_rows - work.row};
}

/// What a CTA has of the segments and of the end, by one thread before the CTA's first barrier:
/// divisions take long.
template <class T>
__device__ __forceinline__ void split_share_out(const GemmArgs& args, const SplitWork<T>& work,
                                                SplitEnd<T>& end) {
  const int splits = work.num_splits;
  end.low_end = (args.int4_blocks * splits + args.blocks - 1) / args.blocks;
  end.high_begin = ((args.int4_blocks + 1) * splits + args.blocks - 1) / args.blocks - 1;
  constexpr int kBatches = T::kUnits / T::kBatch;
  end.unit_begin = kBatches * work.rank / splits * T::kBatch;
  end.unit_end = kBatches * (work.rank + 1) / splits * T::kBatch;
}

template <class T>
__device__ __forceinline__ void split_fetch_token_scales(const GemmArgs& args, SplitEnd<T>& end,
                                                         int lane) {
  for (int token = lane; token < args.tokens; token += 32) {
    end.token_scales[token] = __ldcg(reinterpret_cast<const float2*>(args.x_scales) + token);
  }
}

/// For the blocks behind the last ones, which teams read ahead and do not multiply.
template <class T>
__device__ __forceinline__ void split_load_nothing(const SplitPipeline<T>& pipeline,
                                                   const SplitCursor<T>& at) {
  prims::mbarrier_wait(pipeline.empty(at.stage), at.parity ^ 1U);
  prims::mbarrier_arrive(pipeline.full(at.stage));
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
    for (; at.block < num_blocks + T::kTeams; at.template advance<1>()) {
      split_load_nothing<T>(pipeline, at);
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
  const int num_early = min(num_blocks, T::kStages);
  const bool copies = prims::elect_one();
  if (copies) {
    prims::tensor_map_prefetch(&maps.codes);
    split_load_first_levels<T>(work, pipeline, num_early, maps);
  }
  __syncwarp();
  // On their way while the kernel before ends, since the end of a short product soon asks for them.
  SplitRows rows;
  if constexpr (!T::kIsAlone) rows = split_ask_rows<T>(args, work, lane);
  prims::wait_for_previous_kernel();
  SplitCursor<T> at(0);
  if (copies) {
    for (; at.block < num_early; at.template advance<1>()) {
      split_load_inputs<T>(work, pipeline, at, maps);
    }
  }
  __syncwarp();
  if constexpr (T::kIsAlone) rows = split_ask_rows<T>(args, work, lane);
  split_put_rows<T>(args, work, rows, pipeline.end(), lane);
  split_fetch_token_scales<T>(args, pipeline.end(), lane);
  if (copies) {
    const auto load_levels = [&] {
      if constexpr (T::kHasLevels && !T::kHasAllLevels) {
        if (at.block % T::kLevelBlocks == 0) {
          split_load_levels<T>(work, pipeline, at.block, maps);
        }
      }
    };
    // Here stage 0 is filled for the second time: the first phase of its `empty` is waited for.
    for (; at.block < num_blocks; at.template advance<1>()) {
      prims::mbarrier_wait(pipeline.empty(at.stage), at.parity ^ 1U);
      split_load_inputs<T>(work, pipeline, at, maps);
      load_levels();
    }
    for (; at.block < num_blocks + T::kTeams; at.template advance<1>()) {
      split_load_nothing<T>(pipeline, at);
      load_levels();
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

/// This warp has read the stage.
template <class T>
__device__ __forceinline__ void split_release(const SplitPipeline<T>& pipeline, int stage) {
  if (threadIdx.x % 32 == 0) prims::mbarrier_arrive(pipeline.empty(stage));
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

/// Made words for the products where they are used if there are registers for bytes as words, else
/// where they are read.
template <class T>
using SplitLevels = std::conditional_t<T::kIsAlone, RawLevels, Levels>;

/// This lane's levels of a block. Where they come by groups a team waits for a group's with the
/// first block that it has of it.
template <class T>
__device__ __forceinline__ SplitLevels<T> split_levels(const SplitPipeline<T>& pipeline,
                                                       int block) {
  if constexpr (!T::kHasLevels) {
    return {};
  } else {
    int at = block;  // of a block behind the last what lies there, to no use
    if constexpr (!T::kHasAllLevels) {
      at = block % T::kLevelRing;
      if (at % T::kLevelBlocks < T::kTeams) {
        prims::mbarrier_wait(pipeline.levels_full(at),
                             static_cast<uint32_t>(block / T::kLevelRing) & 1U);
      }
    }
    // Sixteen warps' registers do not hold one place more.
    constexpr bool kIsFull = T::kConsumers > 256 && !T::kIsAlone;
    const auto thread = static_cast<int>(kIsFull ? prims::thread_idx_anew() : threadIdx.x);
    const RawLevels raw =
        load_raw_levels<T::kIsAlone>(pipeline.levels(at), thread / 32 % T::kTeamWarps * 16,
                                     thread % 32 / 4, pipeline.kLevelOffset);
    if constexpr (T::kIsAlone) {
      return raw;
    } else {
      return raw.levels();
    }
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
template <class T>
struct SplitBlock {
  uint4 raw[2];  // halves
  SplitLevels<T> levels;
};

template <class T>
__device__ __forceinline__ SplitBlock<T> split_read(const SplitPipeline<T>& pipeline,
                                                    const SplitCursor<T>& at) {
  prims::mbarrier_wait(pipeline.full(at.stage), at.parity);
  return {{split_nibbles<T>(pipeline, at.stage, 0), split_nibbles<T>(pipeline, at.stage, 1)},
          split_levels<T>(pipeline, at.block)};
}

/// sums += this team's blocks before `end`. On return nothing is under way. A block is read before
/// the one before it is expanded, and a stage released in the next block: 2 · kTeams stages are
/// in use. So is the one behind the last, of another segment or of no block at all: not to ask
/// whether there is one saves a tenth of the loop's instructions.
template <class T>
__device__ __forceinline__ void split_multiply(const SplitPipeline<T>& pipeline, SplitCursor<T>& at,
                                               int end, int32_t (&sums)[T::kSums]) {
  const int num_blocks = (end - at.block + T::kTeams - 1) / T::kTeams;
  if (num_blocks <= 0) return;
  prims::wgmma_pin(sums);  // zeros are made here, not between products, which would serialize them
  uint32_t a[2][2][4];     // of either half of a block: k32 steps of low, high nibbles
  SplitBlock<T> block = split_read<T>(pipeline, at);
  int before = at.stage;
#pragma unroll(T::kIsAlone ? 2 : 1)
  for (int i = 0; i < num_blocks; ++i) {
    const int stage = at.stage;
    const uint64_t inputs = prims::wgmma_descriptor_k128(pipeline.inputs(stage));
    at.template advance<T::kTeams>();
    const SplitBlock<T> next_block = split_read<T>(pipeline, at);
    const Levels levels = block.levels.levels();
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      prims::wgmma_wait<1>();  // the batch that read a[half] is through
      if (half == 1 && i > 0) split_release<T>(pipeline, before);
      split_multiply_half<T>(inputs, half, block.raw[half], levels, a[half], sums);
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
  const int unit = static_cast<int>(threadIdx.x) / 32 % T::kTeamWarps;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  auto* to =
      reinterpret_cast<int4*>(area) + (split_team<T>() * T::kUnits + unit * T::kGroups) * 32 + lane;
#pragma unroll
  for (int i = 0; i < T::kGroups; ++i) {
    to[i * 32] = make_int4(sums[4 * i], sums[4 * i + 1], sums[4 * i + 2], sums[4 * i + 3]);
  }
}

/// All blocks of the CTA; its sums lie in shared memory behind the next barrier.
template <class T>
__device__ __forceinline__ void split_consume(const GemmArgs& args, const SplitWork<T>& work,
                                              const SplitPipeline<T>& pipeline) {
  int32_t sums[T::kSums] = {};
  SplitCursor<T> at(split_team<T>());
  if constexpr (T::kHasAllLevels) prims::mbarrier_wait(pipeline.levels_full(0), 0);
  if constexpr (T::kHoldsSums) {
    int32_t low[T::kSums] = {};
    const int border = min(args.int4_blocks - work.begin, work.num_blocks());  // or none before it
    split_multiply<T>(pipeline, at, border, low);
    split_multiply<T>(pipeline, at, work.num_blocks(), sums);
    prims::named_barrier_sync(1, T::kConsumers);  // no one reads stages any more
    if (work.begin < args.int4_blocks) split_write_sums<T>(pipeline.parked(), low);
    if (work.end > args.int4_blocks) split_write_sums<T>(pipeline.sums(), sums);
    return;
  } else if constexpr (T::kTwoSegments) {
    if (work.begin < args.int4_blocks) {
      const int border = args.int4_blocks - work.begin;
      split_multiply<T>(pipeline, at, border < work.num_blocks() ? border : work.num_blocks(),
                        sums);
      split_write_sums<T>(pipeline.parked(), sums);
#pragma unroll
      for (int i = 0; i < T::kSums; ++i) sums[i] = 0;
    }
  }
  split_multiply<T>(pipeline, at, work.num_blocks(), sums);
  prims::named_barrier_sync(1, T::kConsumers);  // no one reads stages any more
  if (!T::kTwoSegments || work.end > args.int4_blocks) split_write_sums<T>(pipeline.sums(), sums);
}

}  // namespace comet::formats::w4ax::cuda
