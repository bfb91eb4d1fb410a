// Kernel and launch of the wide tiles of gemm_sm90.h; what the kernel does stands in
// gemm_sm90_wide.cuh.
#include "comet/formats/w4ax/cuda/wide/gemm_sm90_wide.cuh"

#include <cuda_runtime_api.h>

#include "comet/base/check.h"
#include "comet/device/cuda/cuda_check.h"
#include "comet/device/cuda/overlapped_launch.cuh"
#include "comet/formats/w4ax/cuda/wide/gemm_sm90_wide_store.cuh"

namespace comet::formats::w4ax::cuda {
namespace {

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

__device__ __forceinline__ Sm90Place place_of(const Sm90Grid& grid, uint32_t tile_count) {
  return sm90_place(grid, static_cast<int>(blockIdx.x + tile_count * gridDim.x));
}

/// kCount of a warpgroup's tokens, from `first` of its own on, of the CTA's tile_count-th tile.
/// What follows from tile_count is made anew, as by thread_idx_anew().
template <class T, int kCount>
__device__ __forceinline__ void store_tokens(const GemmArgs& args, const Sm90Pipeline<T>& pipeline,
                                             uint32_t tile_count, int first, const int32_t* low,
                                             const int32_t* high) {
  const Sm90Table<T> table(pipeline, prims::value_anew(tile_count));
  const Sm90Place place = *table.place();
  // Not there where packed tiles are odd in number, and taken two at a time.
  if (place.row_tile * T::kTiles + Sm90WideThread<T>().tile() >= args.num_tiles) return;
  sm90_wide_store<T, kCount>(args, pipeline, table, place.token_tile, first, low, high);
}

/// The INT8 segment, kHighTokens after kHighTokens, each stored at once.
template <class T>
__device__ __forceinline__ void store_two_segments(const GemmArgs& args,
                                                   const Sm90Pipeline<T>& pipeline,
                                                   uint32_t tile_count,
                                                   const int32_t (&low)[T::kOwnSums]) {
#pragma unroll
  for (int pass = 0; pass < T::kPasses; ++pass) {
    const int first = pass * T::kHighTokens;
    const uint32_t block = prims::value_anew(tile_count) * static_cast<uint32_t>(args.blocks) +
                           static_cast<uint32_t>(args.int4_blocks);
    int32_t high[T::kHighTokens / 2] = {};
    sm90_high_multiply<T>(pipeline, {sm90_stage_of<T>(block), args.blocks - args.int4_blocks},
                          Sm90WideThread<T>().first_token() + first, pass == T::kPasses - 1, high);
    store_tokens<T, T::kHighTokens>(args, pipeline, tile_count, first, low + first / 2, high);
  }
}

/// A CTA's tile_count-th tile.
template <class T>
__device__ __forceinline__ void consume_tile(const GemmArgs& args, const Sm90Pipeline<T>& pipeline,
                                             const Sm90Grid& grid, uint32_t tile_count) {
  sm90_fill_table<T>(args, Sm90Table<T>(pipeline, tile_count), place_of(grid, tile_count));
  constexpr int kStep = T::kSplitsK ? 2 : 1;
  const int num_blocks = T::kTwoSegments ? args.int4_blocks : args.blocks;
  const int pair = Sm90WideThread<T>().pair();
  int32_t sums[T::kSums] = {};
  const Sm90Blocks<T> blocks{sm90_stage_of<T>(tile_count * static_cast<uint32_t>(args.blocks) +
                                              static_cast<uint32_t>(pair)),
                             (num_blocks - pair + kStep - 1) / kStep};
  sm90_wide_multiply<T>(pipeline, blocks, sums);
  prims::cp_async_wait<0>();
  prims::named_barrier_sync(static_cast<uint32_t>(1 + Sm90WideThread<T>().group), 128);
  const auto finish = [&](const int32_t(&own)[T::kOwnSums]) {
    if constexpr (T::kTwoSegments) {
      store_two_segments<T>(args, pipeline, tile_count, own);
    } else {
      store_tokens<T, T::kOwnTokens>(args, pipeline, tile_count, 0, own, own);
    }
  };
  if constexpr (T::kSplitsK) {
    int32_t own[T::kOwnSums];
    sm90_exchange<T>(pipeline, sums, own);
    finish(own);
  } else {
    finish(sums);
  }
}

#endif

template <class T>
__global__ void __launch_bounds__(T::kThreads, 1)
    gemm_sm90_wide(const GemmArgs args, const Sm90Grid grid,
                   const __grid_constant__ Sm90Maps maps) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ __align__(1024) uint8_t shared[];
  prims::allow_next_kernel();  // it waits for this one's end before it reads what this one writes
  const Sm90Pipeline<T> pipeline{shared};
  sm90_init_barriers<T>(pipeline);
  if (threadIdx.x >= T::kConsumers) {
    prims::registers_shrink<T::kProducerRegisters>();
    sm90_with_role<T>(Sm90Producer<T>{args, grid, pipeline, maps});
    return;
  }
  prims::registers_grow<T::kConsumerRegisters>();
  prims::wait_for_previous_kernel();  // its scales may be read, what it read may be written
  for (uint32_t i = 0; blockIdx.x + i * gridDim.x < static_cast<uint32_t>(grid.num_whole); ++i) {
    consume_tile<T>(args, pipeline, grid, i);
  }
#endif
}

struct Launch {
  const GemmArgs& args;
  const Sm90Plan& plan;
  const Sm90Maps& maps;
  cudaStream_t stream;

  template <class T>
  void kernel() const {
    COMET_CUDA(cudaFuncSetAttribute(gemm_sm90_wide<T>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    T::kSharedBytes));
    const Sm90Grid grid{(args.num_tiles + T::kTiles - 1) / T::kTiles,
                        (args.tokens + T::kTokens - 1) / T::kTokens, plan.num_whole};
    launch_overlapped({.grid = dim3(static_cast<unsigned>(plan.num_ctas)),
                       .threads = T::kThreads,
                       .shared_bytes = T::kSharedBytes,
                       .stream = stream},
                      gemm_sm90_wide<T>, args, grid, maps);
  }

  template <WeightKind kKind, bool kTwoSegments>
  void tile() const {
    if (plan.tile_rows == 256) {
      return plan.tile_tokens == 64 ? kernel<Sm90WideTraits<kKind, 256, 64, kTwoSegments>>()
                                    : kernel<Sm90WideTraits<kKind, 256, 128, kTwoSegments>>();
    }
    switch (plan.tile_tokens) {
      case 64:
        return kernel<Sm90WideTraits<kKind, 128, 64, kTwoSegments>>();
      case 128:
        if constexpr (!kTwoSegments || kKind == WeightKind::kChannel) {
          return kernel<Sm90WideTraits<kKind, 128, 128, kTwoSegments>>();
        }
        break;
      case 256:
        if constexpr (!kTwoSegments) return kernel<Sm90WideTraits<kKind, 128, 256, false>>();
        break;
      default:
        break;
    }
    COMET_CHECK(false, "no wide tile of {} x {}", plan.tile_rows, plan.tile_tokens);
  }
};

}  // namespace

void launch_gemm_sm90_wide(const GemmArgs& args, const Sm90Plan& plan, const Sm90Maps& maps,
                           CUstream_st* stream) {
  const bool has_two = has_two_segments(args);
  COMET_CHECK(sm90_wide_suits(args, plan), "{} x {} in {} parts with {} of {} INT4", plan.tile_rows,
              plan.tile_tokens, plan.num_splits, args.int4_blocks, args.blocks);
  if (plan.num_splits > 1) return launch_gemm_sm90_cluster(args, plan, maps, stream);
  const Launch launch{args, plan, maps, stream};
  if (args.kind == WeightKind::kProgressive) {
    has_two ? launch.tile<WeightKind::kProgressive, true>()
            : launch.tile<WeightKind::kProgressive, false>();
  } else {
    has_two ? launch.tile<WeightKind::kChannel, true>()
            : launch.tile<WeightKind::kChannel, false>();
  }
}

}  // namespace comet::formats::w4ax::cuda
