// y[t, c] = w_scale[c] · (x_scale[t] · Σ_k w[c, k] · x[t, k]) + bias[c] with 8-bit codes, by wgmma.
// Callers: gemm_sm90.cu, which instantiates it. sm_90a; elsewhere the kernel does nothing.
//
// Operands are swapped: weights [n, k] are wgmma's A (64 rows a warpgroup), tokens [rows, k] its B
// (N = 16 … 256), so that few tokens waste nothing. Both come by tensor copies with 128-byte
// swizzle, 128 bytes of k a stage.
// Grid: x = tiles of 128 channels × kTokens tokens, by groups of 8 channel tiles that walk over all
// tokens (a wave's operands stay in L2); z = splits of k, the CTAs of one cluster.
// Roles: warps 0-7 are two consumer warpgroups (64 channels each), one lane of warp 8 the producer:
// elected, so that ptxas makes no loop over lanes of each copy (docs/kernels/w8a8_cuda.md).
// End of a tile: sums go to shared memory (over the stages) as [token][channel], the CTAs of a
// cluster add each other's in order of their rank, and rows are stored 4 channels at a time, with
// scales that came to shared memory under the products.
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

template <bool kE4M3Value, int kTokensValue>
struct Sm90Traits {
  static constexpr bool kE4M3 = kE4M3Value;
  static constexpr int kTokens = kTokensValue;
  static constexpr int kChannels = kSm90TileChannels;
  static constexpr int kDepth = 128;
  static constexpr int kConsumerWarps = 8;
  static constexpr int kConsumers = kConsumerWarps * 32;
  static constexpr int kThreads = kConsumers + 32;
  static constexpr int kWeightBytes = kChannels * kDepth;
  static constexpr int kTokenBytes = kTokens * kDepth;
  static constexpr int kStageBytes = kWeightBytes + kTokenBytes;
  // E4M3 with 128 tokens holds 2 · 64 sums, s8 with 256 holds 128: one CTA an SM, which then takes
  // all shared memory.
  static constexpr int kCtasPerSm = kTokens * (kE4M3 ? 2 : 1) > 128 ? 1 : 2;
  static constexpr int kBarrierBytes = 256;
  static constexpr int kScaleBytes = (2 * kChannels + kTokens) * 4;  // behind the barriers
  static constexpr int kSharedLimit = 227 * 1024 / kCtasPerSm - 1024 - kBarrierBytes - kScaleBytes;
  static constexpr int kMaxStages = 6;
  static constexpr int kStages =
      kSharedLimit / kStageBytes < kMaxStages ? kSharedLimit / kStageBytes : kMaxStages;
  static constexpr int kSharedBytes = kStages * kStageBytes + kBarrierBytes + kScaleBytes;
  static constexpr int kSums = kTokens / 2;             // per thread
  static constexpr int kPartialStride = kChannels + 4;  // 4 words on: no bank met twice
  using Sum = std::conditional_t<kE4M3, float, int32_t>;
  using Product = std::conditional_t<kE4M3, prims::WgmmaE4m3<kTokens>, prims::WgmmaS8<kTokens>>;
  static_assert(kStages >= 3);
  static_assert(kTokens * kPartialStride * 4 <= kStages * kStageBytes);
  static_assert(2 * kStages * 8 <= kBarrierBytes);
  static_assert(Product::kNumAccumulators == kSums);
  static_assert(kTokens <= kConsumers && kChannels <= kConsumers);
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
  __device__ float* channel_scales() const {
    return reinterpret_cast<float*>(stages + Traits::kStages * Traits::kStageBytes +
                                    Traits::kBarrierBytes);
  }
  __device__ float* biases() const { return channel_scales() + Traits::kChannels; }
  __device__ float* token_scales() const { return biases() + Traits::kChannels; }
  __device__ uint8_t* weights(int stage) const { return stages + stage * Traits::kStageBytes; }
  __device__ uint8_t* tokens(int stage) const { return weights(stage) + Traits::kWeightBytes; }
};

constexpr int kSm90Group = 8;  // channel tiles

__host__ __device__ constexpr int sm90_channel_tiles(int n) {
  return (n + kSm90TileChannels - 1) / kSm90TileChannels;
}

template <typename Traits>
__device__ __forceinline__ Sm90Place sm90_place(const GemmArgs& args) {
  const int channel_tiles = sm90_channel_tiles(args.n);
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

/// The bytes of tokens of one step, behind its weights.
template <typename Traits>
__device__ __forceinline__ void sm90_load_tokens(const Sm90Place& place,
                                                 const Sm90Pipeline<Traits>& pipeline, int step,
                                                 const CUtensorMap* x_map) {
  const int stage = step % Traits::kStages;
  prims::tensor_load_2d(pipeline.tokens(stage), x_map, (place.first_step + step) * Traits::kDepth,
                        place.token, &pipeline.full[stage]);
}

/// One thread fills the stages. Weights do not depend on the kernel before, which makes the tokens'
/// codes: as many of them as there are stages are on their way before it has ended.
template <typename Traits>
__device__ __forceinline__ void sm90_start_weights(const GemmArgs& args, const Sm90Place& place,
                                                   const Sm90Pipeline<Traits>& pipeline,
                                                   const CUtensorMap* w_map) {
  const int num_early = min(Traits::kStages, place.num_steps);
  for (int step = 0; step < num_early; ++step) {
    sm90_load_weights<Traits>(args, place, pipeline, step, w_map);
  }
}

template <typename Traits>
__device__ __forceinline__ void sm90_produce(const GemmArgs& args, const Sm90Place& place,
                                             const Sm90Pipeline<Traits>& pipeline,
                                             const CUtensorMap* w_map, const CUtensorMap* x_map) {
  const int num_early = min(Traits::kStages, place.num_steps);
  prims::tensor_map_prefetch(x_map);
  prims::wait_for_previous_kernel();
  for (int step = 0; step < num_early; ++step) {
    sm90_load_tokens<Traits>(place, pipeline, step, x_map);
  }
  for (int step = num_early; step < place.num_steps; ++step) {
    sm90_load_weights<Traits>(args, place, pipeline, step, w_map);
    sm90_load_tokens<Traits>(place, pipeline, step, x_map);
  }
}

/// What the end of the tile asks for goes to shared memory before the products: consumers, a
/// channel and a token each. The kernel ahead has ended when this returns.
template <typename Traits>
__device__ __forceinline__ void sm90_fetch_scales(const GemmArgs& args, const Sm90Place& place,
                                                  const Sm90Pipeline<Traits>& pipeline) {
  const int thread = static_cast<int>(threadIdx.x);
  const int channel = place.channel + thread;
  if (thread < Traits::kChannels) {
    const bool is_channel = channel < args.n;
    pipeline.channel_scales()[thread] = is_channel ? args.w_scale[channel] : 0.0F;
    pipeline.biases()[thread] = is_channel && args.bias != nullptr ? args.bias[channel] : 0.0F;
  }
  prims::wait_for_previous_kernel();
  if (thread < Traits::kTokens) {
    const int token = place.token + thread;
    pipeline.token_scales()[thread] =
        token < args.rows ? __ldcg(args.x_scale + int64_t{token} * args.x_scale_stride) : 0.0F;
  }
}

/// This warp has read the stage.
__device__ __forceinline__ void sm90_release(uint64_t* empty) {
  if (threadIdx.x % 32 == 0) prims::mbarrier_arrive(empty);
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
      sm90_release(&pipeline.empty[stage]);
#pragma unroll
      for (int i = 0; i < Traits::kSums; ++i) sums[i] += part[i];
    } else {
      sm90_multiply<Traits>(pipeline, stage, sums);
      prims::wgmma_wait<1>();  // the step before has been read
      if (step > 0) sm90_release(&pipeline.empty[(step - 1) % Traits::kStages]);
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

/// Adds four neighbouring sums of one CTA of the cluster.
template <typename Traits>
__device__ __forceinline__ void sm90_collect(const typename Traits::Sum* partial, int rank,
                                             typename Traits::Sum (&total)[4]) {
  const auto* local = reinterpret_cast<const float*>(partial);
  const float4 bits = gridDim.z == 1 ? *reinterpret_cast<const float4*>(local)
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

/// The output channels of a thread: four neighbours, the same of every token.
struct Sm90Channels {
  int first = 0;
  int num_left = 0;  // channels from `first` to n: four or more, fewer, none
  float4 scale;
  float4 bias;
};

template <typename Traits>
__device__ __forceinline__ Sm90Channels sm90_channels(const GemmArgs& args, const Sm90Place& place,
                                                      const Sm90Pipeline<Traits>& pipeline,
                                                      int lane) {
  Sm90Channels channels;
  channels.first = place.channel + lane * 4;
  channels.num_left = args.n - channels.first;
  channels.scale = reinterpret_cast<const float4*>(pipeline.channel_scales())[lane];
  channels.bias = reinterpret_cast<const float4*>(pipeline.biases())[lane];
  return channels;
}

__device__ __forceinline__ void sm90_store_quad(const GemmArgs& args, const Sm90Channels& channels,
                                                int token, float x_scale, const float (&sums)[4]) {
  const int64_t element = token * args.out_stride + channels.first;
  const bool has_bias = args.bias != nullptr;
  const float y[4] = {scaled(sums[0], x_scale, channels.scale.x, channels.bias.x, has_bias),
                      scaled(sums[1], x_scale, channels.scale.y, channels.bias.y, has_bias),
                      scaled(sums[2], x_scale, channels.scale.z, channels.bias.z, has_bias),
                      scaled(sums[3], x_scale, channels.scale.w, channels.bias.w, has_bias)};
  const bool is_aligned =
      args.out_stride % 4 == 0 && reinterpret_cast<uintptr_t>(args.out) % 16 == 0;
  // Not clamped to 0…4 and compared with 4: ptxas 13.0 takes that comparison from the wrong one of
  // VIMNMX.RELU's predicates, and rows are written beyond n.
  if (is_aligned && channels.num_left >= 4) {
    store_quad(args, element, y);
    return;
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (i < channels.num_left) store_one(args, element + i, y[i]);
  }
}

/// Stores this CTA's share of the tile: a warp has a token's channels, the tokens are dealt over
/// the cluster's warps. Several tokens at once, because reads of other CTAs take long. What a
/// thread has read it also stores, so that its reads are over before it arrives at the last barrier
/// of the cluster.
template <typename Traits>
__device__ __forceinline__ void sm90_store(const GemmArgs& args, const Sm90Place& place,
                                           const Sm90Pipeline<Traits>& pipeline,
                                           const typename Traits::Sum* partial) {
  constexpr bool kIsFull = Traits::kE4M3 && Traits::kTokens == 64;  // 4 would spill
  constexpr int kBatch = Traits::kTokens == 16 || Traits::kTokens == 128 ? 2 : kIsFull ? 3 : 4;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int num_splits = static_cast<int>(gridDim.z);
  const int stride = Traits::kConsumerWarps * num_splits;
  const int num_tokens = min(Traits::kTokens, args.rows - place.token);
  const Sm90Channels channels = sm90_channels<Traits>(args, place, pipeline, lane);
  if (channels.num_left <= 0) return;
  int first =
      static_cast<int>(blockIdx.z) * Traits::kConsumerWarps + static_cast<int>(threadIdx.x) / 32;
  for (; first < num_tokens; first += kBatch * stride) {
    typename Traits::Sum total[kBatch][4] = {};
    for (int rank = 0; rank < num_splits; ++rank) {
#pragma unroll
      for (int j = 0; j < kBatch; ++j) {
        const int token = first + j * stride;
        if (token >= num_tokens) continue;
        sm90_collect<Traits>(partial + token * Traits::kPartialStride + lane * 4, rank, total[j]);
      }
    }
#pragma unroll
    for (int j = 0; j < kBatch; ++j) {
      const int token = first + j * stride;
      if (token >= num_tokens) continue;
      const float sums[4] = {static_cast<float>(total[j][0]), static_cast<float>(total[j][1]),
                             static_cast<float>(total[j][2]), static_cast<float>(total[j][3])};
      sm90_store_quad(args, channels, place.token + token, pipeline.token_scales()[token], sums);
    }
  }
}

/// All threads of all CTAs of a cluster; behind it their sums are there.
__device__ __forceinline__ void sm90_sync_sums() {
  prims::cluster_fence_shared();
  prims::cluster_arrive_relaxed();
  prims::cluster_wait();
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
  const bool is_consumer = threadIdx.x < Traits::kConsumers;
  if (!is_consumer && prims::elect_one()) {
#pragma unroll
    for (int stage = 0; stage < Traits::kStages; ++stage) {
      prims::mbarrier_init(&pipeline.full[stage], 1);
      prims::mbarrier_init(&pipeline.empty[stage], Traits::kConsumerWarps);
    }
    prims::mbarrier_init_fence();
    sm90_start_weights<Traits>(args, place, pipeline, &w_map);
  }
  __syncthreads();
  auto* partial = reinterpret_cast<typename Traits::Sum*>(shared);
  if (is_consumer) {
    sm90_fetch_scales<Traits>(args, place, pipeline);
    typename Traits::Sum sums[Traits::kSums] = {};
    sm90_consume<Traits>(place, pipeline, sums);
    prims::named_barrier_sync(1, Traits::kConsumers);
    sm90_spread<Traits>(sums, partial);
    prims::named_barrier_sync(1, Traits::kConsumers);
  } else if (prims::elect_one()) {
    sm90_produce<Traits>(args, place, pipeline, &w_map, &x_map);
  }
  __syncwarp();
  if (gridDim.z > 1) sm90_sync_sums();
  if (is_consumer) sm90_store<Traits>(args, place, pipeline, partial);
  if (gridDim.z > 1) {  // others may still read this CTA's sums
    prims::cluster_arrive_relaxed();
    prims::cluster_wait();
  }
#endif
}

}  // namespace comet::formats::w8a8
