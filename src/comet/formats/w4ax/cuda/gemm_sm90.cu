// Kernel, launch and plans of gemm_sm90.h; what the kernel does stands in gemm_sm90.cuh.
#include "comet/formats/w4ax/cuda/gemm_sm90.cuh"

#include <cuda_runtime_api.h>

#include <algorithm>

#include "comet/base/check.h"
#include "comet/device/cuda/cuda_check.h"
#include "comet/device/cuda/overlapped_launch.cuh"
#include "comet/formats/w4ax/cuda/gemm_sm90_store.cuh"
#include "comet/formats/w4ax/cuda/wide/gemm_sm90_wide.h"

namespace comet::formats::w4ax::cuda {
namespace {

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

/// Sums of one piece of work, and what becomes of them.
template <class T>
__device__ __forceinline__ void consume_work(const GemmArgs& args, const Sm90Schedule& schedule,
                                             const Sm90Pipeline<T>& pipeline, Sm90StageIndex<T>& at,
                                             const Sm90Work& work, void* workspace,
                                             int32_t* counters) {
  // The INT4 segment's sums where an INT8 one follows.
  int32_t low[T::kParts][T::kSums] = {};
  int32_t high[T::kParts][T::kSums] = {};
  if constexpr (T::kTwoSegments) {
    const int border = args.int4_blocks;
    sm90_multiply<T>(pipeline, at, (work.end < border ? work.end : border) - work.begin, low);
    sm90_multiply<T>(pipeline, at, work.end - (work.begin > border ? work.begin : border), high);
  } else {
    sm90_multiply<T>(pipeline, at, work.end - work.begin, high);
  }
  prims::wait_for_previous_kernel();  // its scales may be read, what it read may be written
  if (work.end - work.begin < args.blocks) {
    const int slot = 2 * static_cast<int>(blockIdx.x) + (work.begin > 0 ? 0 : 1);
    const bool has_low = T::kTwoSegments && work.begin < args.int4_blocks;
    const bool has_high = !T::kTwoSegments || work.end > args.int4_blocks;
    if constexpr (T::kTwoSegments) {
      if (has_low) sm90_write_slot<T>(workspace, slot, 1, low);
    }
    if (has_high) sm90_write_slot<T>(workspace, slot, 0, high);
    int32_t* counter = counters + 2 * (work.tile - schedule.grid.num_whole) + threadIdx.x / 128;
    if (!sm90_is_last<T>(args, pipeline, work, counter)) return;
    sm90_for_each_other(schedule, work.tile, [&](int other, int begin, int end) {
      if constexpr (T::kTwoSegments) {
        if (begin < args.int4_blocks) sm90_add_slot<T>(workspace, other, 1, low);
      }
      if (!T::kTwoSegments || end > args.int4_blocks) {
        sm90_add_slot<T>(workspace, other, 0, high);
      }
    });
  }
  sm90_store<T>(args, pipeline, sm90_place(schedule.grid, work.tile), low, high);
}

#endif

template <class T>
__global__ void __launch_bounds__(T::kThreads, T::kCtasPerSm)
    gemm_sm90(const GemmArgs args, const Sm90Grid grid, void* workspace, int32_t* counters,
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
  Sm90Schedule schedule(grid, args.blocks);
  Sm90StageIndex<T> at;
  Sm90Work work;
  while (schedule.next(work)) {
    consume_work<T>(args, schedule, pipeline, at, work, workspace, counters);
  }
#endif
}

struct Launch {
  const GemmArgs& args;
  const Sm90Plan& plan;
  const Sm90Maps& maps;
  void* workspace;
  int32_t* counters;
  cudaStream_t stream;

  template <class T>
  void kernel() const {
    COMET_CUDA(cudaFuncSetAttribute(gemm_sm90<T>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    T::kSharedBytes));
    const Sm90Grid grid{(args.num_tiles + T::kTiles - 1) / T::kTiles,
                        (args.tokens + T::kTokens - 1) / T::kTokens, plan.num_whole};
    launch_overlapped({.grid = dim3(static_cast<unsigned>(plan.num_ctas)),
                       .threads = T::kThreads,
                       .shared_bytes = T::kSharedBytes,
                       .stream = stream},
                      gemm_sm90<T>, args, grid, workspace, counters, maps);
  }

  template <WeightKind kKind, bool kTwoSegments>
  void tile() const {
    switch (plan.tile_tokens) {
      case 16:
        return kernel<Sm90Traits<kKind, 128, 16, kTwoSegments>>();
      case 32:
        return kernel<Sm90Traits<kKind, 128, 32, kTwoSegments>>();
      case 64:
        return kernel<Sm90Traits<kKind, 128, 64, kTwoSegments>>();
      default:
        return kernel<Sm90Traits<kKind, 128, 128, kTwoSegments>>();
    }
  }

  template <WeightKind kKind>
  void segments() const {
    has_two_segments(args) ? tile<kKind, true>() : tile<kKind, false>();
  }
};

}  // namespace

void launch_gemm_sm90(const GemmArgs& args, const Sm90Plan& plan, const Sm90Maps& maps,
                      void* workspace, int32_t* counters, CUstream_st* stream) {
  if (args.tokens == 0 || args.num_tiles == 0) return;
  if (plan.is_wide) return launch_gemm_sm90_wide(args, plan, maps, stream);
  const int64_t units = (int64_t{kNumCounters} / 2) * args.blocks;  // of shared tiles, at most
  COMET_CHECK(units * plan.num_ctas < (int64_t{1} << 32), "{} blocks in {} CTAs", args.blocks,
              plan.num_ctas);
  const Launch launch{args, plan, maps, workspace, counters, stream};
  if (args.kind == WeightKind::kProgressive) {
    launch.segments<WeightKind::kProgressive>();
  } else {
    launch.segments<WeightKind::kChannel>();
  }
}

}  // namespace comet::formats::w4ax::cuda
