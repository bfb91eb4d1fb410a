// y[t, c] = w_scale[c] · (x_scale[t] · Σ_k w[c, k] · x[t, k]) + bias[c] with 8-bit codes, by wgmma.
// Callers: gemm_sm90.cu, which instantiates it. sm_90a; elsewhere the kernel does nothing.
//
// Operands are swapped: weights [n, k] are wgmma's A (64 rows a warpgroup), tokens [rows, k] its B
// (N = 16 … 256), so that few tokens waste nothing. Both come by tensor copies with 128-byte
// swizzle, 128 bytes of k a stage.
// Grid: x = tiles of 128 channels × kTokens tokens, by groups of 8 channel tiles that walk over all
// tokens (a wave's operands stay in L2); z = splits of k, the CTAs of one cluster.
// Roles: warps 0-7 are two consumer warpgroups (64 channels each), one lane of warp 8 the producer.
// kMulticast: instead of splits, the two CTAs of a cluster have neighbouring channel tiles; each
// loads half of the tokens' rows into both.
// End of a tile: sums go to shared memory (over the stages) as [token][channel], the CTAs of a
// cluster add each other's in order of their rank, and rows are stored 4 channels at a time.
// Launched so that it may start before the kernel ahead of it ends (programmatic serialization):
// weights are loaded at once, what that kernel makes after wait_for_previous_kernel().
// Numerics: s8 exact in int32; E4M3 sums of 128 k on the tensor cores (about 14 bits), those in
// FP32 registers.
// Floors on an H200: n·k bytes / 4.3 TB/s (8B gate_up 27 µs); 2·rows·n·k / 1,979 TOPS.
#pragma once

#include <cuda.h>

#include <type_traits>

#include "comet/device/cuda/prims/bulk_copy.cuh"
#include "comet/device/cuda/prims/cluster.cuh"
#include "comet/device/cuda/prims/control.cuh"
#include "comet/device/cuda/prims/mbarrier.cuh"
#include "comet/device/cuda/prims/wgmma.cuh"
#include "comet/device/cuda/prims/wgmma_e4m3.cuh"
#include "comet/device/cuda/prims/wgmma_s8.cuh"
#include "comet/formats/w8a8/cuda/epilogue.cuh"
#include "comet/formats/w8a8/cuda/gemm_sm90.h"

namespace comet::formats::w8a8 {

template <bool kE4M3Value, int kTokensValue, bool kMulticastValue>
struct Sm90Traits {
  static constexpr bool kE4M3 = kE4M3Value;
  static constexpr int kTokens = kTokensValue;
  static constexpr bool kMulticast = kMulticastValue;
  static constexpr int kChannels = kSm90TileChannels;
  static constexpr int kDepth = 128;
  static constexpr int kConsumerWarps = 8;
  static constexpr int kConsumers = kConsumerWarps * 32;
  static constexpr int kThreads = kConsumers + 32;
  static constexpr int kWeightBytes = kChannels * kDepth;
  static constexpr int kTokenBytes = kTokens * kDepth;
  static constexpr int kStageBytes = kWeightBytes + kTokenBytes;
  // E4M3 with 128 tokens holds 2 · 64 sums: one CTA an SM, which then takes all shared memory.
  static constexpr int kCtasPerSm = kTokens * (kE4M3 ? 2 : 1) > 128 ? 1 : 2;
  static constexpr int kBarrierBytes = 256;
  static constexpr int kSharedLimit = 227 * 1024 / kCtasPerSm - 1024 - kBarrierBytes;
  static constexpr int kMaxStages = 6;
  static constexpr int kStages =
      kSharedLimit / kStageBytes < kMaxStages ? kSharedLimit / kStageBytes : kMaxStages;
  static constexpr int kSharedBytes = kStages * kStageBytes + kBarrierBytes;
  static constexpr int kSums = kTokens / 2;             // per thread
  static constexpr int kPartialStride = kChannels + 4;  // 4 words on: no bank met twice
  static constexpr uint32_t kReleases = kConsumerWarps * (kMulticast ? 2 : 1);
  using Sum = std::conditional_t<kE4M3, float, int32_t>;
  using Product = std::conditional_t<kE4M3, prims::WgmmaE4m3<kTokens>, prims::WgmmaS8<kTokens>>;
  static_assert(kStages >= 3);
  static_assert(kTokens * kPartialStride * 4 <= kStages * kStageBytes);
  static_assert(2 * kStages * 8 <= kBarrierBytes);
  static_assert(Product::kNumAccumulators == kSums);
};

/// Where a CTA works.
struct Sm90Place {
  int channel = 0;
  int token = 0;
  int first_step = 0;  // of 128 bytes of k
  int num_steps = 0;
};

template <typename Traits>
struct Sm90Pipeline {
  uint8_t* stages;
  uint64_t* full;   // the stage's bytes are there
  uint64_t* empty;  // its readers are done

  __device__ explicit Sm90Pipeline(uint8_t* shared)
      : stages(shared),
        full(reinterpret_cast<uint64_t*>(shared + Traits::kStages * Traits::kStageBytes)),
        empty(full + Traits::kStages) {}
  __device__ uint8_t* weights(int stage) const { return stages + stage * Traits::kStageBytes; }
  __device__ uint8_t* tokens(int stage) const { return weights(stage) + Traits::kWeightBytes; }
};

constexpr int kSm90Group = 8;  // channel tiles; even, so that pairs of a multicast stay together

/// Tiles of channels, made even for pairs.
__host__ __device__ constexpr int sm90_channel_tiles(int n, bool is_multicast) {
  const int tiles = (n + kSm90TileChannels - 1) / kSm90TileChannels;
  return is_multicast ? (tiles + 1) / 2 * 2 : tiles;
}

template <typename Traits>
__device__ __forceinline__ Sm90Place sm90_place(const GemmArgs& args) {
  const int channel_tiles = sm90_channel_tiles(args.n, Traits::kMulticast);
  const int token_tiles = (args.rows + Traits::kTokens - 1) / Traits::kTokens;
  const int tile = static_cast<int>(blockIdx.x);
  const int first = tile / (kSm90Group * token_tiles) * kSm90Group;
  const int in_group = tile % (kSm90Group * token_tiles);
  const int group_size = min(kSm90Group, channel_tiles - first);
  const int steps = (args.k + Traits::kDepth - 1) / Traits::kDepth;
  const int split = static_cast<int>(blockIdx.z);
  const int num_splits = static_cast<int>(gridDim.z);
  Sm90Place place;
  place.channel = (first + in_group % group_size) * Traits::kChannels;
  place.token = in_group / group_size * Traits::kTokens;
  place.first_step = steps * split / num_splits;
  place.num_steps = steps * (split + 1) / num_splits - place.first_step;
  return place;
}

/// The bytes of weights of one step, once its stage is free. Weights that no other tile reads are
/// the first to leave L2.
template <typename Traits>
__device__ __forceinline__ void sm90_load_weights(const GemmArgs& args, const Sm90Place& place,
                                                  const Sm90Pipeline<Traits>& pipeline, int step,
                                                  const CUtensorMap* w_map) {
  const uint64_t policy = args.rows <= Traits::kTokens ? prims::kEvictFirst : prims::kEvictNormal;
  const int stage = step % Traits::kStages;
  const uint32_t parity = static_cast<uint32_t>(step / Traits::kStages) & 1U;
  prims::mbarrier_wait(&pipeline.empty[stage], parity ^ 1U);
  prims::mbarrier_arrive_expect_tx(&pipeline.full[stage], Traits::kStageBytes);
  prims::tensor_load_2d_hint(pipeline.weights(stage), w_map,
                             (place.first_step + step) * Traits::kDepth, place.channel,
                             &pipeline.full[stage], policy);
}

/// The bytes of tokens of one step, behind its weights; in a multicast this CTA's half for both.
template <typename Traits>
__device__ __forceinline__ void sm90_load_tokens(const Sm90Place& place,
                                                 const Sm90Pipeline<Traits>& pipeline, int step,
                                                 const CUtensorMap* x_map) {
  const int stage = step % Traits::kStages;
  const int k = (place.first_step + step) * Traits::kDepth;
  if constexpr (Traits::kMulticast) {
    constexpr int kHalf = Traits::kTokens / 2;
    const auto rank = static_cast<int>(prims::cluster_rank());
    prims::tensor_load_2d_multicast(pipeline.tokens(stage) + rank * kHalf * Traits::kDepth, x_map,
                                    k, place.token + rank * kHalf, &pipeline.full[stage], 0b11);
  } else {
    prims::tensor_load_2d(pipeline.tokens(stage), x_map, k, place.token, &pipeline.full[stage]);
  }
}

/// One thread fills the stages. Weights do not depend on the kernel before, which makes the tokens'
/// codes: as many of them as there are stages are on their way before it has ended.
template <typename Traits>
__device__ __forceinline__ void sm90_produce(const GemmArgs& args, const Sm90Place& place,
                                             const Sm90Pipeline<Traits>& pipeline,
                                             const CUtensorMap* w_map, const CUtensorMap* x_map) {
  const int num_early = min(Traits::kStages, place.num_steps);
  for (int step = 0; step < num_early; ++step) {
    sm90_load_weights<Traits>(args, place, pipeline, step, w_map);
  }
  prims::wait_for_previous_kernel();
  for (int step = 0; step < num_early; ++step) {
    sm90_load_tokens<Traits>(place, pipeline, step, x_map);
  }
  for (int step = num_early; step < place.num_steps; ++step) {
    sm90_load_weights<Traits>(args, place, pipeline, step, w_map);
    sm90_load_tokens<Traits>(place, pipeline, step, x_map);
  }
}

/// This warp has read the stage: says so to whoever writes into it.
template <typename Traits>
__device__ __forceinline__ void sm90_release(uint64_t* empty) {
  const uint32_t lane = threadIdx.x % 32;
  if constexpr (Traits::kMulticast) {
    if (lane < 2) prims::mbarrier_arrive_cluster(empty, lane);
  } else {
    if (lane == 0) prims::mbarrier_arrive(empty);
  }
}

/// The products of one stage, as one group of wgmma.
template <typename Traits>
__device__ __forceinline__ void sm90_multiply(const Sm90Pipeline<Traits>& pipeline, int stage,
                                              typename Traits::Sum (&sums)[Traits::kSums]) {
  const int warpgroup = static_cast<int>(threadIdx.x) / 128;
  const uint64_t a =
      prims::wgmma_descriptor_k128(pipeline.weights(stage) + warpgroup * 64 * Traits::kDepth);
  const uint64_t b = prims::wgmma_descriptor_k128(pipeline.tokens(stage));
  prims::wgmma_fence();
#pragma unroll
  for (int i = 0; i < Traits::kDepth / 32; ++i) {
    // E4M3 starts each stage from 0.
    Traits::Product::ss(sums, prims::wgmma_advance(a, i * 32), prims::wgmma_advance(b, i * 32),
                        Traits::kE4M3 && i == 0 ? 0 : 1);
  }
  prims::wgmma_commit();
}

/// Sums of this thread over the CTA's part of k.
template <typename Traits>
__device__ __forceinline__ void sm90_consume(const Sm90Place& place,
                                             const Sm90Pipeline<Traits>& pipeline,
                                             typename Traits::Sum (&sums)[Traits::kSums]) {
  [[maybe_unused]] typename Traits::Sum part[Traits::kSums];
  for (int step = 0; step < place.num_steps; ++step) {
    const int stage = step % Traits::kStages;
    prims::mbarrier_wait(&pipeline.full[stage], static_cast<uint32_t>(step / Traits::kStages) & 1U);
    if constexpr (Traits::kE4M3) {
      sm90_multiply<Traits>(pipeline, stage, part);
      prims::wgmma_wait<0>();
      prims::wgmma_pin(part);
      sm90_release<Traits>(&pipeline.empty[stage]);
#pragma unroll
      for (int i = 0; i < Traits::kSums; ++i) sums[i] += part[i];
    } else {
      sm90_multiply<Traits>(pipeline, stage, sums);
      prims::wgmma_wait<1>();  // the step before has been read
      if (step > 0) sm90_release<Traits>(&pipeline.empty[(step - 1) % Traits::kStages]);
    }
  }
  if constexpr (!Traits::kE4M3) {
    prims::wgmma_wait<0>();
    prims::wgmma_pin(sums);
  }
}

/// Registers → shared memory as [token][channel]: the picture of d in wgmma_s8.cuh.
template <typename Traits>
__device__ __forceinline__ void sm90_spread(const typename Traits::Sum (&sums)[Traits::kSums],
                                            typename Traits::Sum* partial) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int channel = static_cast<int>(threadIdx.x) / 32 * 16 + lane / 4;
  const int token = lane % 4 * 2;
#pragma unroll
  for (int i = 0; i < Traits::kSums; ++i) {
    partial[(token + i / 4 * 8 + i % 2) * Traits::kPartialStride + channel + i % 4 / 2 * 8] =
        sums[i];
  }
}

/// Four neighbouring sums, those of all splits together.
template <typename Traits>
__device__ __forceinline__ void sm90_collect(const typename Traits::Sum* partial, int num_splits,
                                             float (&y)[4]) {
  typename Traits::Sum total[4] = {};
  for (int rank = 0; rank < num_splits; ++rank) {
    const auto* local = reinterpret_cast<const float*>(partial);
    const float4 bits = num_splits == 1 ? *reinterpret_cast<const float4*>(local)
                                        : prims::cluster_load(local, static_cast<uint32_t>(rank));
    const float words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if constexpr (Traits::kE4M3) {
        total[i] += words[i];
      } else {
        total[i] += __float_as_int(words[i]);
      }
    }
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) y[i] = static_cast<float>(total[i]);
}

/// Stores this CTA's share of the tile: quads of channels, dealt over the cluster's threads.
template <typename Traits>
__device__ __forceinline__ void sm90_store(const GemmArgs& args, const Sm90Place& place,
                                           const typename Traits::Sum* partial) {
  constexpr int kQuads = Traits::kChannels / 4;
  const int num_splits = static_cast<int>(gridDim.z);
  const bool has_bias = args.bias != nullptr;
  const bool in_quads = args.out_stride % 4 == 0 && reinterpret_cast<uintptr_t>(args.out) % 16 == 0;
  for (int unit = static_cast<int>(blockIdx.z) * Traits::kConsumers + threadIdx.x;
       unit < Traits::kTokens * kQuads; unit += Traits::kConsumers * num_splits) {
    const int token = place.token + unit / kQuads;
    const int channel = place.channel + unit % kQuads * 4;
    if (token >= args.rows) break;
    if (channel >= args.n) continue;
    float y[4];
    sm90_collect<Traits>(partial + unit / kQuads * Traits::kPartialStride + unit % kQuads * 4,
                         num_splits, y);
    const float x_scale = args.x_scale[int64_t{token} * args.x_scale_stride];
    const int64_t element = token * args.out_stride + channel;
    const int count = min(4, args.n - channel);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (i >= count) continue;
      y[i] = scaled(y[i], x_scale, args.w_scale[channel + i],
                    has_bias ? args.bias[channel + i] : 0.0F, has_bias);
    }
    if (in_quads && count == 4) {
      store_quad(args, element, y);
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (i < count) store_one(args, element + i, y[i]);
      }
    }
  }
}

template <typename Traits>
__global__ void __launch_bounds__(Traits::kThreads, Traits::kCtasPerSm)
    gemm_sm90(const GemmArgs args, const __grid_constant__ CUtensorMap w_map,
              const __grid_constant__ CUtensorMap x_map) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ __align__(1024) uint8_t shared[];
  prims::allow_next_kernel();  // it waits for this one's end before it reads what this one writes
  const Sm90Pipeline<Traits> pipeline(shared);
  const Sm90Place place = sm90_place<Traits>(args);
  const bool is_cluster = Traits::kMulticast || gridDim.z > 1;
  const bool is_consumer = threadIdx.x < Traits::kConsumers;
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < Traits::kStages; ++stage) {
      prims::mbarrier_init(&pipeline.full[stage], 1);
      prims::mbarrier_init(&pipeline.empty[stage], Traits::kReleases);
    }
    prims::mbarrier_init_fence();
  }
  __syncthreads();
  if constexpr (Traits::kMulticast) prims::cluster_sync();
  auto* partial = reinterpret_cast<typename Traits::Sum*>(shared);
  if (is_consumer) {
    typename Traits::Sum sums[Traits::kSums] = {};
    sm90_consume<Traits>(place, pipeline, sums);
    // In a multicast the other CTA's copies were all for stages that this one has waited for.
    prims::named_barrier_sync(1, Traits::kConsumers);
    sm90_spread<Traits>(sums, partial);
    prims::named_barrier_sync(1, Traits::kConsumers);
  } else if (threadIdx.x == Traits::kConsumers) {
    sm90_produce<Traits>(args, place, pipeline, &w_map, &x_map);
  }
  if (gridDim.z > 1) prims::cluster_sync();
  prims::wait_for_previous_kernel();  // its scales may be read, what it read may be written
  if (is_consumer) sm90_store<Traits>(args, place, partial);
  if (is_cluster) prims::cluster_sync();
#endif
}

}  // namespace comet::formats::w8a8
