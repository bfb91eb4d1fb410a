// y = x · Wᵀ of w4ax with scales per block, S1 and group weights, by wgmma m64nNk32 on signed
// bytes; sm_90a. Callers: gemm_sm90_chains.cu.
//
// Operands: as in gemm_sm90.cuh: weights are A from registers, codes B, all by tensor copies. Rows'
//   parameters of a block come beside them (group: 128 F16; progressive: 128 multipliers, 128
//   offsets). Tokens' scales: [tokens, blocks] (S1) or [tokens, 2] (group with S2, S2h).
// Grid: tiles of 128 rows × kTokens. CTAs take tiles in turn; or a cluster of num_splits CTAs has a
//   tile, CTA `rank` the chains num_chains · rank / num_splits …
// Roles: two consumer warpgroups, 64 rows each; of the third three lanes issue copies (weights,
//   codes, rows' parameters) and a warp writes the scales of a chain's blocks and tokens to shared
//   memory, up to two chains ahead.
// A block in a consumer: two batches of 64 channels; nibbles of one are expanded while wgmma works
//   on the one before. Sums of a block begin with 0 and are promoted when it is through; of 128
//   tokens those of 64 while the other 64 are multiplied. Where a CTA has fewer tokens two share an
//   SM, and so do their products and promotions.
// Start: may overlap the end of the kernel before, which made codes and scales; weights of all
//   stages are on their way by then. The next launch may overlap this one likewise.
// Numerics: int32 sums, exact. Channel and group weights go in as 16·q: the tokens' scales are
//   multiplied by 1/16, which is exact where a block's scale is 2⁻¹²² at least or 0 (producers' are
//   2⁻¹⁰⁷ at least, times a group's of 2⁻²⁴ at least they may be less and round otherwise). acc =
//   fma(scale, float(I), acc) over a chain, which is added to the totals (shared memory) or written
//   to the workspace; from there each CTA of the cluster adds a share of the tile's, chain by
//   chain.
// Floor: packed bytes / copy rate; 2 · tokens · rows · k / 1,979 TOPS; instructions beside products
//   (two an output and block, three of group weights): docs/kernels/w4ax_sm90.md.
#pragma once

#include "comet/device/cuda/prims/bulk_copy.cuh"
#include "comet/device/cuda/prims/convert.cuh"
#include "comet/device/cuda/prims/wgmma.cuh"
#include "comet/device/cuda/prims/wgmma_s8.cuh"
#include "comet/formats/w4ax/cuda/chains/gemm_sm90_chains_store.cuh"

namespace comet::formats::w4ax::cuda {

// ---- Producers: a lane of each of three warps, and all lanes of one

enum class ChainsRole { kWeights, kInputs, kRowParams, kScales };

template <class T>
__device__ __forceinline__ bool chains_is_warp(ChainsRole role) {
  return threadIdx.x / 32 == static_cast<uint32_t>(T::kConsumers / 32 + static_cast<int>(role));
}

/// The role's part of a block, into a stage.
template <class T, ChainsRole kRole>
__device__ __forceinline__ void chains_load(const GemmArgs& args, const ChainsMaps& maps,
                                            const Sm90Place& place, int block,
                                            const ChainsPipeline<T>& pipeline, int stage,
                                            uint64_t policy) {
  uint64_t* full = pipeline.full(stage);
  if constexpr (kRole == ChainsRole::kWeights) {
    prims::mbarrier_arrive_expect_tx(full, kTileBytes);
    prims::tensor_load_2d_hint(pipeline.weights(stage), &maps.packed, 0,
                               (place.row_tile * args.blocks + block) * kChainsMapRows, full,
                               policy);
  } else if constexpr (kRole == ChainsRole::kInputs) {
    prims::mbarrier_arrive_expect_tx(full, T::kInputBytes);
    prims::tensor_load_2d(pipeline.inputs(stage), &maps.codes, block * kBlockChannels,
                          place.token_tile * T::kTokens, full);
  } else {
    const int row = block * args.num_tiles + place.row_tile;
    prims::mbarrier_arrive_expect_tx(full, T::kParamBytes);
    prims::tensor_load_2d(pipeline.params(stage), &maps.params, 0, row, full);
    if constexpr (T::kHasLevels) {
      prims::tensor_load_2d(pipeline.params(stage) + kTileRows, &maps.offset, 0, row, full);
    }
  }
}

/// Scales of a chain's blocks: a lane has one of 8 blocks and every fourth token. Of tokens and
/// blocks that do not exist they are 0. Plain loads: racecheck does not follow cp.async here.
template <class T>
__device__ __forceinline__ void chains_fill_scales(const GemmArgs& args, int first_token, int block,
                                                   int end, const ChainsPipeline<T>& pipeline,
                                                   int slot) {
  constexpr int kAtOnce = T::kTokens == 16 ? 4 : 8;  // loads under way
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int in_four = lane / kBlocksOfChain;
  block += lane % kBlocksOfChain;
  const int stride = args.block_scales ? args.blocks : 2;
  const int column = args.block_scales ? block : (block >= args.int4_blocks ? 1 : 0);
  const float* from = args.x_scales + int64_t{first_token + in_four} * stride + column;
  const int num_tokens = block < end ? args.tokens - first_token - in_four : 0;
  float* to = pipeline.scales(slot, lane % kBlocksOfChain);
#pragma unroll 1
  for (int i = 0; i < T::kTokens; i += 4 * kAtOnce) {
    float scales[kAtOnce];
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j, from += 4 * stride) {
      scales[j] = i + 4 * j < num_tokens ? __ldcg(from) : 0.0F;
    }
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) {
      to[chains_scale_at(i + 4 * j + in_four)] = __fmul_rn(scales[j], T::kScaleUnit);
    }
  }
}

/// Weights and rows' parameters do not depend on the kernel before, which makes codes and scales:
/// those of all stages are on their way before it has ended. A stage's first filling waits for
/// nothing.
template <class T>
struct ChainsProducer {
  const GemmArgs& args;
  const ChainsGrid& grid;
  const ChainsPipeline<T>& pipeline;
  const ChainsMaps& maps;

  /// A lane.
  template <ChainsRole kRole>
  __device__ __forceinline__ void copy() const {
    if constexpr (kRole == ChainsRole::kInputs) prims::wait_for_previous_kernel();
    // Weights that no other tile reads are the first to leave L2.
    const uint64_t policy = grid.tiles.token_tiles == 1 ? prims::kEvictFirst : prims::kEvictNormal;
    ChainsRing<T::kStages> stage;
    grid.for_each_work<T>(args, [&](const ChainsWork& work) {
      const Sm90Place place = sm90_place(grid.tiles, work.tile);
      if constexpr (kRole == ChainsRole::kWeights && !T::kHasRowScales) {
        prims::bulk_prefetch_l2(args.channel_scale + place.row_tile * kTileRows, kTileRows * 4);
      }
#pragma unroll 1
      for (int block = work.begin; block < work.end; ++block, stage.advance()) {
        prims::mbarrier_wait(pipeline.empty(stage.at), stage.parity ^ 1U);
        chains_load<T, kRole>(args, maps, place, block, pipeline, stage.at, policy);
      }
    });
  }

  /// A warp.
  __device__ __forceinline__ void fill_scales() const {
    prims::wait_for_previous_kernel();
    ChainsRing<T::kScaleSlots> slot;
    grid.for_each_work<T>(args, [&](const ChainsWork& work) {
      const int first_token = sm90_place(grid.tiles, work.tile).token_tile * T::kTokens;
#pragma unroll 1
      for (int block = work.begin; block < work.end; block += kBlocksOfChain, slot.advance()) {
        prims::mbarrier_wait(pipeline.scales_empty(slot.at), slot.parity ^ 1U);
        chains_fill_scales<T>(args, first_token, block, work.end, pipeline, slot.at);
        prims::mbarrier_arrive(pipeline.scales_full(slot.at));
      }
    });
  }

  __device__ __forceinline__ void run() const {
    if (chains_is_warp<T>(ChainsRole::kScales)) return fill_scales();
    if (chains_is_warp<T>(ChainsRole::kWeights) && prims::elect_one()) {
      copy<ChainsRole::kWeights>();
    }
    if (chains_is_warp<T>(ChainsRole::kInputs) && prims::elect_one()) copy<ChainsRole::kInputs>();
    if constexpr (T::kHasRowParams) {
      if (chains_is_warp<T>(ChainsRole::kRowParams) && prims::elect_one()) {
        copy<ChainsRole::kRowParams>();
      }
    }
  }
};

// ---- Consumers

template <class T>
__device__ __forceinline__ uint4 chains_nibbles(const ChainsPipeline<T>& pipeline, int stage,
                                                int half) {
  static_assert(kUnitBytes == 32 * 16);  // a warp has a unit of each half
  return *reinterpret_cast<const uint4*>(pipeline.weights(stage) + half * kHalfBytes +
                                         prims::value_anew(threadIdx.x) * 16);
}

/// Progressive weights: of this lane's rows.
template <class T>
__device__ __forceinline__ Levels chains_levels(const ChainsPipeline<T>& pipeline, int stage) {
  if constexpr (!T::kHasLevels) {
    return {};
  } else {
    const auto thread = static_cast<int>(prims::value_anew(threadIdx.x));
    return load_levels(pipeline.params(stage), thread / 32 * 16, thread % 32 / 4);
  }
}

/// Group weights: of rows lane / 4 and + 8 of the warp's 16.
template <class T>
__device__ __forceinline__ float2 chains_row_scales(const ChainsPipeline<T>& pipeline, int stage) {
  if constexpr (!T::kHasRowScales) {
    return {};
  } else {
    const auto thread = static_cast<int>(prims::value_anew(threadIdx.x));
    const auto* scales = reinterpret_cast<const uint16_t*>(pipeline.params(stage)) +
                         thread / 32 * 16 + thread % 32 / 4;
    return make_float2(prims::f32_of_f16(scales[0]), prims::f32_of_f16(scales[8]));
  }
}

template <class T>
__device__ __forceinline__ void chains_expand(const uint4& raw, const Levels& levels,
                                              uint32_t (&a)[2][4]) {
  expand<T::kKind>(raw, levels, a[0], a[1]);
  prims::wgmma_pin(a[0]);
  prims::wgmma_pin(a[1]);
}

/// sums = (half 0) or += (half 1) 64 channels; behind a fence.
template <class T>
__device__ __forceinline__ void chains_multiply_half(uint64_t inputs, int half,
                                                     const uint32_t (&a)[2][4],
                                                     int32_t (&sums)[T::kSums]) {
#pragma unroll
  for (int step = 0; step < 2; ++step) {
    prims::WgmmaS8<T::kSetTokens>::rs(
        sums, a[step], prims::wgmma_advance(inputs, static_cast<uint32_t>(half * 64 + step * 32)),
        half == 0 && step == 0 ? 0 : 1);
  }
}

/// acc = fma(s_b, float(I_b), acc). `scales`: of the set's tokens.
template <class T>
__device__ __forceinline__ void chains_promote(const float* scales, const float2& row_scale,
                                               const int32_t (&sums)[T::kSums],
                                               float (&acc)[T::kSums]) {
  const float* of_lane = scales + prims::value_anew(threadIdx.x) % 4 * 4;
#pragma unroll
  for (int i = 0; i < T::kSums; i += 8) {
    const float4 four = *reinterpret_cast<const float4*>(of_lane + i * 2);
    const float of_token[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      float scale = of_token[j / 4 * 2 + j % 2];
      if constexpr (T::kHasRowScales) {
        scale = __fmul_rn(scale, j % 4 < 2 ? row_scale.x : row_scale.y);
      }
      acc[i + j] = __fmaf_rn(scale, __int2float_rn(sums[i + j]), acc[i + j]);
    }
  }
}

/// Tile after tile of a CTA.
template <class T>
struct ChainsConsumer {
  const GemmArgs& args;
  const ChainsGrid& grid;
  const ChainsPipeline<T>& pipeline;
  float4* workspace;
  ChainsRing<T::kStages> stage;
  ChainsRing<T::kScaleSlots> slot;

  /// This warp has read the stage; all lanes' reads lie before a wait for products, which is
  /// aligned.
  __device__ __forceinline__ void release(int at) const {
    if (threadIdx.x % 32 == 0) prims::mbarrier_arrive(pipeline.empty(at));
  }

  /// Of one set and block; behind the last block of a chain its sums go where they belong.
  template <int kSet>
  __device__ __forceinline__ void promote(const ChainsWork& work, int block,
                                          const float2& row_scale, const int32_t (&sums)[T::kSums],
                                          float (&acc)[T::kSums]) {
    const auto of_all = static_cast<uint32_t>(block);
    const int in_chain = static_cast<int>(of_all % kBlocksOfChain);
    if (kSet == 0 && in_chain == 0) {
      prims::mbarrier_wait(pipeline.scales_full(slot.at), slot.parity);
    }
    chains_promote<T>(pipeline.scales(slot.at, in_chain) + kSet * T::kSetTokens, row_scale, sums,
                      acc);
    if (in_chain != kBlocksOfChain - 1 && block + 1 != work.end) return;
    chains_close<T, kSet>(grid, pipeline, work, static_cast<int>(of_all / kBlocksOfChain),
                          workspace, acc);
    if constexpr (kSet == T::kSets - 1) {
      prims::mbarrier_arrive(pipeline.scales_empty(slot.at));  // every reader, for racecheck
      slot.advance();
    }
  }

  /// What a lane needs to begin with a block: waits for it.
  struct Begin {
    uint4 raw;  // first half
    Levels levels;
  };
  __device__ __forceinline__ Begin begin_block() const {
    prims::mbarrier_wait(pipeline.full(stage.at), stage.parity);
    return {chains_nibbles<T>(pipeline, stage.at, 0), chains_levels<T>(pipeline, stage.at)};
  }

  /// One set: the next block's first half is expanded while this one's second is multiplied.
  __device__ __forceinline__ void multiply_one_set(const ChainsWork& work) {
    int32_t sums[T::kSums] = {};
    float acc[T::kSums] = {};
    prims::wgmma_pin(sums);  // zeros are made here, not between products
    uint32_t a[2][2][4];     // of either half of a block: k32 steps of low, high nibbles
    Begin begin = begin_block();
    chains_expand<T>(begin.raw, begin.levels, a[0]);
#pragma unroll 1
    for (int i = work.begin; i < work.end; ++i) {
      const int at = stage.at;
      const uint64_t inputs = prims::wgmma_descriptor_k128(pipeline.inputs(at));
      prims::wgmma_fence();
      chains_multiply_half<T>(inputs, 0, a[0], sums);
      prims::wgmma_commit();
      chains_expand<T>(chains_nibbles<T>(pipeline, at, 1), begin.levels, a[1]);
      prims::wgmma_fence();
      chains_multiply_half<T>(inputs, 1, a[1], sums);
      prims::wgmma_commit();
      const float2 row_scale = chains_row_scales<T>(pipeline, at);
      stage.advance();
      if (i + 1 < work.end) begin = begin_block();
      prims::wgmma_wait<1>();  // a[0] is free
      chains_expand<T>(begin.raw, begin.levels, a[0]);
      prims::wgmma_wait<0>();
      prims::wgmma_pin(sums);
      release(at);
      promote<0>(work, i, row_scale, sums, acc);
    }
  }

  /// Of 64 tokens of a block; of the first ones `begin` is expanded meanwhile. What is between two
  /// fences is one batch to wait for.
  template <int kSet>
  __device__ __forceinline__ void multiply_set(const Begin& begin, uint32_t (&a)[2][2][4],
                                               int32_t (&sums)[T::kSums]) const {
    const uint64_t inputs =
        prims::wgmma_advance(prims::wgmma_descriptor_k128(pipeline.inputs(stage.at)),
                             kSet * T::kSetTokens * kBlockChannels);
    prims::wgmma_fence();
    chains_multiply_half<T>(inputs, 0, a[0], sums);
    if constexpr (kSet == 0) {
      chains_expand<T>(chains_nibbles<T>(pipeline, stage.at, 1), begin.levels, a[1]);
      prims::wgmma_fence();
    }
    chains_multiply_half<T>(inputs, 1, a[1], sums);
    prims::wgmma_commit();
  }

  /// Two sets, of 64 tokens each: while one is promoted the other is multiplied.
  __device__ __forceinline__ void multiply_two_sets(const ChainsWork& work) {
    int32_t first[T::kSums] = {};
    int32_t second[T::kSums] = {};
    float first_acc[T::kSums] = {};
    float second_acc[T::kSums] = {};
    prims::wgmma_pin(first);
    prims::wgmma_pin(second);
    uint32_t a[2][2][4];
    Begin begin = begin_block();
    chains_expand<T>(begin.raw, begin.levels, a[0]);
    multiply_set<0>(begin, a, first);
#pragma unroll 1
    for (int i = work.begin;; ++i) {
      multiply_set<1>(begin, a, second);
      const int at = stage.at;
      const float2 row_scale = chains_row_scales<T>(pipeline, at);
      stage.advance();
      prims::wgmma_wait<1>();
      prims::wgmma_pin(first);
      promote<0>(work, i, row_scale, first, first_acc);
      const bool is_last = i + 1 == work.end;
      if (!is_last) begin = begin_block();
      prims::wgmma_wait<0>();
      prims::wgmma_pin(second);
      release(at);
      if (is_last) {
        promote<1>(work, i, row_scale, second, second_acc);
        return;
      }
      chains_expand<T>(begin.raw, begin.levels, a[0]);
      multiply_set<0>(begin, a, first);
      promote<1>(work, i, row_scale, second, second_acc);
    }
  }

  __device__ __forceinline__ void run() {
    grid.for_each_work<T>(args, [&](const ChainsWork& work) {
      if constexpr (T::kSets == 2) {
        multiply_two_sets(work);
      } else {
        multiply_one_set(work);
      }
      if (grid.num_splits == 1) {
        chains_store_totals<T>(args, grid, pipeline, work);
      } else {
        chains_join<T>(args, grid, work, workspace);
      }
    });
  }
};

}  // namespace comet::formats::w4ax::cuda
