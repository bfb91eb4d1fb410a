// Kernels and launches of gemm_mma.h; what they do stands in gemm_mma.cuh.
#include "comet/formats/w4ax/cuda/gemm_mma.cuh"

#include <cuda_runtime_api.h>

#include <algorithm>

#include "comet/device/cuda/cuda_check.h"
#include "comet/device/cuda/prims/control.cuh"

namespace comet::formats::w4ax::cuda {
namespace {

template <class T>
__device__ __forceinline__ Place place_of(const GemmArgs& args) {
  const int token_tiles = (args.tokens + T::kTokens - 1) / T::kTokens;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  Place at;
  at.tile = static_cast<int>(blockIdx.x) / token_tiles;
  at.first_token = static_cast<int>(blockIdx.x) % token_tiles * T::kTokens;
  at.warp_row = warp % T::kRowWarps * T::kUnits * 16;
  at.warp_token = warp / T::kRowWarps * T::kWarpTokens;
  at.lane = static_cast<int>(threadIdx.x) % 32;
  split_range<T::kChains>(args.blocks, static_cast<int>(blockIdx.y), static_cast<int>(gridDim.y),
                          at.begin, at.end);
  return at;
}

/// The pipeline: calls step(block, stage) for every block of the CTA, with its data there.
template <class T, class Step>
__device__ __forceinline__ void for_each_block(const GemmArgs& args, const Place& at,
                                               uint8_t* shared, const Step& step) {
  const int num_steps = at.end - at.begin;
  BlockLoader<T> loader(args, at);
#pragma unroll 1
  for (int i = 0; i < T::kNumStages - 1 && i < num_steps; ++i) {
    loader.load_weights(shared + i * T::kStageBytes);
  }
  prims::wait_for_previous_kernel();
  prims::allow_next_kernel();
#pragma unroll 1
  for (int i = 0; i < T::kNumStages - 1; ++i) {
    if (i < num_steps) loader.load_inputs(shared + i * T::kStageBytes);
    prims::cp_async_commit();
  }
  int stage = 0;
#pragma unroll 1
  for (int i = 0; i < num_steps; ++i) {
    prims::cp_async_wait<T::kNumStages - 2>();
    __syncthreads();  // the block is there for all, and all are through with the one before
    if (i + T::kNumStages - 1 < num_steps) {
      uint8_t* next = shared + (stage == 0 ? T::kNumStages - 1 : stage - 1) * T::kStageBytes;
      loader.load_weights(next);
      loader.load_inputs(next);
    }
    prims::cp_async_commit();
    step(at.begin + i, shared + stage * T::kStageBytes);
    stage = stage + 1 == T::kNumStages ? 0 : stage + 1;
  }
  prims::cp_async_wait<0>();
  __syncthreads();  // shared memory is free for the output
}

/// Calls put(row, token, unit, column, j) for each of this thread's sums.
template <class T, class Put>
__device__ __forceinline__ void for_each_sum(const Place& at, const Put& put) {
#pragma unroll
  for (int n = 0; n < T::kColumns; ++n) {
#pragma unroll
    for (int u = 0; u < T::kUnits; ++u) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int row = at.warp_row + u * 16 + at.lane / 4 + j / 2 * 8;
        put(row, at.warp_token + n * 8 + at.lane % 4 * 2 + j % 2, u, n, j);
      }
    }
  }
}

/// One or two segments: S2 and S2h of channel and progressive weights.
template <class T>
__global__ void __launch_bounds__(kNumThreads, T::kMinCtas)
    segments_kernel(const GemmArgs args, void* workspace, int32_t* counters) {
  extern __shared__ __align__(128) uint8_t shared[];
  const Place at = place_of<T>(args);
  const bool has_border = T::kTwoSegments && args.int4_blocks > 0 && args.int4_blocks < args.blocks;
  int32_t sums[T::kUnits][T::kColumns][4] = {};
  int32_t low[T::kUnits][T::kColumns][4] = {};  // the INT4 segment's, where an INT8 one follows
  const auto close_segment = [&] {
    for_each_sum<T>(at, [&](int, int, int u, int n, int j) {
      low[u][n][j] = sums[u][n][j];
      sums[u][n][j] = 0;
    });
  };
  for_each_block<T>(args, at, shared, [&](int block, const uint8_t* stage) {
    if constexpr (T::kTwoSegments) {
      if (has_border && block == args.int4_blocks && block > at.begin) close_segment();
    }
    multiply_block<T>(stage, at, sums);
  });
  if constexpr (T::kTwoSegments) {
    if (has_border && at.end <= args.int4_blocks) close_segment();
  }

  if (gridDim.y > 1) {
    const int slot = 2 * static_cast<int>(blockIdx.y);
    if (has_border && at.begin < args.int4_blocks) write_slot<T>(workspace, slot, low);
    if (!has_border || at.end > args.int4_blocks) write_slot<T>(workspace, slot + 1, sums);
    if (!is_last_of_tile(counters)) return;
    for_each_sum<T>(at, [&](int, int, int u, int n, int j) { low[u][n][j] = sums[u][n][j] = 0; });
    for (int split = 0; split < static_cast<int>(gridDim.y); ++split) {
      int begin = 0;
      int end = 0;
      split_range<false>(args.blocks, split, static_cast<int>(gridDim.y), begin, end);
      if constexpr (T::kTwoSegments) {
        if (has_border && begin < args.int4_blocks) add_slot<T>(workspace, 2 * split, low);
      }
      if (!has_border || end > args.int4_blocks) add_slot<T>(workspace, 2 * split + 1, sums);
    }
  }

  const OutputTileWriter<T> writer{args, at, args.tiles[at.tile], shared};
  for_each_sum<T>(at, [&](int row, int token, int u, int n, int j) {
    float2 scales = make_float2(0.0F, 0.0F);
    if (at.first_token + token < args.tokens) {
      scales = reinterpret_cast<const float2*>(args.x_scales)[at.first_token + token];
    }
    writer.put(row, token, segments_value<T>(args, scales, low[u][n][j], sums[u][n][j]));
  });
  writer.finish();
}

/// Scales per block: S1, and all modes of group weights.
template <class T>
__global__ void __launch_bounds__(kNumThreads, T::kMinCtas)
    chains_kernel(const GemmArgs args, void* workspace, int32_t* counters) {
  extern __shared__ __align__(128) uint8_t shared[];
  const Place at = place_of<T>(args);
  int32_t sums[T::kUnits][T::kColumns][4] = {};
  float chains[T::kUnits][T::kColumns][4] = {};
  float totals[T::kUnits][T::kColumns][4] = {};
  for_each_block<T>(args, at, shared, [&](int block, const uint8_t* stage) {
    multiply_block<T>(stage, at, sums);
    promote_block<T>(stage, at, sums, chains);
    if ((block + 1) % kChainBlocks != 0 && block + 1 != args.blocks) return;
    if (gridDim.y > 1) write_slot<T>(workspace, block / kChainBlocks, chains);
    for_each_sum<T>(at, [&](int, int, int u, int n, int j) {
      totals[u][n][j] = __fadd_rn(totals[u][n][j], chains[u][n][j]);
      chains[u][n][j] = 0.0F;
    });
  });
  if (gridDim.y > 1) {
    if (!is_last_of_tile(counters)) return;
    for_each_sum<T>(at, [&](int, int, int u, int n, int j) { totals[u][n][j] = 0.0F; });
    for (int block = 0; block < args.blocks; block += kChainBlocks) {
      add_slot<T>(workspace, block / kChainBlocks, totals);
    }
  }
  const OutputTileWriter<T> writer{args, at, args.tiles[at.tile], shared};
  for_each_sum<T>(at, [&](int row, int token, int u, int n, int j) {
    writer.put(row, token, totals[u][n][j]);
  });
  writer.finish();
}

// ---- Host

bool has_chains(const GemmArgs& args) {
  return args.block_scales || args.kind == WeightKind::kGroup;
}

int tile_tokens_of(const GemmArgs& args) {
  if (args.tokens <= 16) return 16;
  if (has_chains(args)) return 64;
  if (args.tokens <= 32) return 32;
  return args.tokens <= 64 || has_two_segments(args) ? 64 : 128;
}

struct Launch {
  const GemmArgs& args;
  const GemmPlan& plan;
  void* workspace;
  int32_t* counters;
  cudaStream_t stream;

  template <class T>
  void kernel() const {
    constexpr auto* function = [] {
      if constexpr (T::kChains) {
        return chains_kernel<T>;
      } else {
        return segments_kernel<T>;
      }
    }();
    COMET_CUDA(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    T::kSharedBytes));
    const int token_tiles = (args.tokens + T::kTokens - 1) / T::kTokens;
    const dim3 grid(static_cast<unsigned>(args.num_tiles * token_tiles),
                    static_cast<unsigned>(plan.num_splits));
    cudaLaunchAttribute early{};
    early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    early.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config{};
    config.gridDim = grid;
    config.blockDim = dim3(kNumThreads);
    config.dynamicSmemBytes = T::kSharedBytes;
    config.stream = stream;
    config.attrs = &early;
    config.numAttrs = plan.starts_early ? 1 : 0;
    COMET_CUDA(cudaLaunchKernelEx(&config, function, args, workspace, counters));
  }

  template <WeightKind kKind>
  void segments() const {
    switch (plan.tile_tokens) {
      case 16:
        return kernel<Traits<kKind, false, 16>>();
      case 32:
        return kernel<Traits<kKind, false, 32>>();
      case 64:
        return kernel<Traits<kKind, false, 64>>();
      default:
        return kernel<Traits<kKind, false, 128>>();
    }
  }

  template <WeightKind kKind>
  void chains() const {
    if (plan.tile_tokens == 16) return kernel<Traits<kKind, true, 16>>();
    kernel<Traits<kKind, true, 64>>();
  }
};

}  // namespace

GemmPlan plan_gemm(const GemmArgs& args, int num_sms) {
  GemmPlan plan;
  plan.tile_tokens = tile_tokens_of(args);
  const bool chains = has_chains(args);
  const bool is_wide = plan.tile_tokens == 128 && args.kind == WeightKind::kChannel;
  const int ctas_per_sm = (chains && plan.tile_tokens > 32) || is_wide ? 1 : 2;
  const int token_tiles = (args.tokens + plan.tile_tokens - 1) / plan.tile_tokens;
  const int64_t num_ctas = int64_t{args.num_tiles} * token_tiles;
  const int num_chains = (args.blocks + kChainBlocks - 1) / kChainBlocks;
  const int most = chains ? num_chains : std::max(args.blocks / 2, 1);
  if (num_ctas > 0 && num_ctas <= kNumCounters) {
    const int64_t wanted = int64_t{num_sms} * ctas_per_sm / num_ctas;
    plan.num_splits = static_cast<int32_t>(std::clamp<int64_t>(wanted, 1, most));
  }
  if (plan.num_splits > 1) {
    const int64_t slots = chains ? num_chains : 2 * plan.num_splits;
    plan.workspace_bytes = slots * num_ctas * kTileRows * plan.tile_tokens * int64_t{4};
  }
  return plan;
}

void gemm_mma(const GemmArgs& args, const GemmPlan& plan, void* workspace, int32_t* counters,
              CUstream_st* stream) {
  if (args.tokens == 0 || args.num_tiles == 0) return;
  const Launch launch{args, plan, workspace, counters, stream};
  const bool chains = has_chains(args);
  switch (args.kind) {
    case WeightKind::kChannel:
      return chains ? launch.chains<WeightKind::kChannel>()
                    : launch.segments<WeightKind::kChannel>();
    case WeightKind::kProgressive:
      return chains ? launch.chains<WeightKind::kProgressive>()
                    : launch.segments<WeightKind::kProgressive>();
    case WeightKind::kGroup:
      return launch.chains<WeightKind::kGroup>();
  }
}

}  // namespace comet::formats::w4ax::cuda
