// y = x · Wᵀ of w4ax by tiles of 128 × 256 whose blocks a cluster shares (sm_90a): for products of
// too few tiles to occupy the SMs. Products as in gemm_sm90_wide.cuh. Callers:
// gemm_sm90_cluster.cu.
//
// Grid: a cluster of num_splits CTAs for every tile; CTA `rank` has an equal share of the blocks of
//   the INT4 (or only) segment, and so one piece of work: stages are filled from 0 on.
// INT8 segment behind (one block): in a stage of its own, in every CTA, which multiplies it for the
//   tokens that it stores.
// End: int32 sums go to shared memory, over the stages; CTA `rank` adds and stores 16 tokens of
//   every 16 · num_splits. A warp reads what the same warp of the others wrote, in the order of its
//   fragments; reads for the next 16 tokens are under way while these are scaled and stored.
// Floor: blocks · 1,024 clocks / num_splits; sums to and fro: docs/kernels/w4ax_sm90.md.
#pragma once

#include "comet/device/cuda/prims/cluster.cuh"
#include "comet/formats/cuda/add_four.cuh"
#include "comet/formats/w4ax/cuda/wide/gemm_sm90_wide.cuh"

namespace comet::formats::w4ax::cuda {

template <WeightKind kWeightKind, int kTileRowsValue, int kTokensValue, bool kTwoSegmentsValue>
struct Sm90ClusterTraits
    : Sm90WideTraits<kWeightKind, kTileRowsValue, kTokensValue, kTwoSegmentsValue> {
  using Base = Sm90WideTraits<kWeightKind, kTileRowsValue, kTokensValue, kTwoSegmentsValue>;
  static constexpr int kRing = Base::kStages - (kTwoSegmentsValue ? kSm90MostHeld : 0);
  static constexpr int kPassTokens = Base::kHighTokens;
  static constexpr int kMostSplits = sm90_most_splits(kTileRowsValue, kTokensValue);
  // Registers for two passes' reads: where tokens are many and so passes, too.
  static constexpr bool kReadsAhead = kTokensValue == 256;
  static_assert(!Base::kSplitsK && kPassTokens == 16 && kSm90MostHeld == 1);
  static_assert(kTileRowsValue * kTokensValue * 4 <= kRing * Base::kStageBytes,
                "sums take the place of stages");
};

/// What a CTA does: blocks begin … end − 1 of the INT4 (or only) segment of a tile.
struct Sm90Share {
  int num_splits;
  int rank;
  Sm90Place place;
  int begin;
  int end;

  template <class T>
  __device__ static Sm90Share of(const GemmArgs& args, const Sm90Grid& grid, int num_splits) {
    const int cta = static_cast<int>(blockIdx.x);
    const int rank = cta % num_splits;
    const int blocks = T::kTwoSegments ? args.int4_blocks : args.blocks;
    return {num_splits, rank, sm90_place(grid, cta / num_splits), blocks * rank / num_splits,
            blocks * (rank + 1) / num_splits};
  }
};

// ---- Producers: a thread of each role

/// As Sm90Producer.
template <class T>
struct Sm90ShareProducer {
  const GemmArgs& args;
  const Sm90Maps& maps;
  const Sm90Pipeline<T>& pipeline;
  const Sm90Share& share;

  template <Sm90Role kRole>
  __device__ __forceinline__ void load(int block, int stage) const {
    sm90_load<T, kRole>(args, maps, {share.place.row_tile, share.place.token_tile, block}, pipeline,
                        stage,
                        args.tokens <= T::kTokens ? prims::kEvictFirst : prims::kEvictNormal);
  }

  template <Sm90Role kRole>
  __device__ __forceinline__ void run() const {
    if constexpr (kRole == Sm90Role::kInputs) prims::wait_for_previous_kernel();
    Sm90Blocks<T> at{{0, 0}, 0};
    for (int block = share.begin; block < share.end; ++block, at.advance(1)) {
      prims::mbarrier_wait(pipeline.empty(at.at.stage), at.at.parity ^ 1U);
      load<kRole>(block, at.at.stage);
    }
    if constexpr (T::kTwoSegments) load<kRole>(args.int4_blocks, T::kRing);  // asked for last
  }
};

// ---- Consumers: the join

/// A warp's place for the sums of 8 tokens and 16 rows: 512 bytes.
template <class T>
__device__ __forceinline__ int32_t* sm90_share_at(const Sm90Pipeline<T>& pipeline, int eight) {
  const Sm90WideThread<T> thread;
  const int warp = static_cast<int>(thread.idx / 32);
  return reinterpret_cast<int32_t*>(pipeline.shared) +
         ((warp * (T::kTokens / 8) + eight) * 32 + thread.lane) * 4;
}

/// Nobody reads stages any more; behind the next barrier of the cluster all may read.
template <class T>
__device__ __forceinline__ void sm90_share_sums(const Sm90Pipeline<T>& pipeline,
                                                const int32_t (&sums)[T::kSums]) {
  int32_t* to = sm90_share_at<T>(pipeline, 0);
#pragma unroll
  for (int i = 0; i < T::kTokens / 8; ++i) {
    const int32_t* four = sums + i * 4;
    *reinterpret_cast<int4*>(to + i * 128) = make_int4(four[0], four[1], four[2], four[3]);
  }
}

/// Sums of 16 tokens of every CTA of the cluster.
template <class T>
struct Sm90Parts {
  int4 eight[T::kMostSplits][2];

  __device__ __forceinline__ void read(const Sm90Pipeline<T>& pipeline, int pass, int num_splits) {
    const int32_t* from = sm90_share_at<T>(pipeline, pass * 2);
#pragma unroll
    for (int cta = 0; cta < T::kMostSplits; ++cta) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        eight[cta][i] = make_int4(0, 0, 0, 0);
        if (cta < num_splits) {
          eight[cta][i] = prims::cluster_load(from + i * 128, static_cast<uint32_t>(cta));
        }
      }
    }
  }

  __device__ __forceinline__ void add(int32_t (&sums)[8]) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      int4 total = eight[0][i];
#pragma unroll
      for (int cta = 1; cta < T::kMostSplits; ++cta) {
        formats::cuda::add_four(total, eight[cta][i]);
      }
      sums[i * 4] = total.x;
      sums[i * 4 + 1] = total.y;
      sums[i * 4 + 2] = total.z;
      sums[i * 4 + 3] = total.w;
    }
  }
};

}  // namespace comet::formats::w4ax::cuda
