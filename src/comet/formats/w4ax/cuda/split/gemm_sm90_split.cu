// Kernel and launch of gemm_sm90_split.h; what the kernel does stands in gemm_sm90_split.cuh.
#include "comet/formats/w4ax/cuda/split/gemm_sm90_split.cuh"

#include <cuda_runtime_api.h>

#include "comet/device/cuda/cuda_check.h"
#include "comet/device/cuda/overlapped_launch.cuh"
#include "comet/device/cuda/tensor_map.h"
#include "comet/formats/w4ax/cuda/split/gemm_sm90_split_store.cuh"

namespace comet::formats::w4ax::cuda {
namespace {

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

/// One thread, of the first producer warp.
template <class T>
__device__ __forceinline__ void split_init_barriers(const SplitPipeline<T>& pipeline) {
#pragma unroll
  for (int stage = 0; stage < T::kStages; ++stage) {
    prims::mbarrier_init(pipeline.full(stage), T::kProducers);
    prims::mbarrier_init(pipeline.empty(stage), T::kTeamWarps);
  }
#pragma unroll
  for (int at = 0; at < T::kLevelRing; at += T::kLevelBlocks) {
    prims::mbarrier_init(pipeline.levels_full(at), 1);
  }
  prims::mbarrier_init_fence();
}

/// All threads of all CTAs of a cluster; behind it their sums and scales are there.
__device__ __forceinline__ void split_sync(int num_splits) {
  if (num_splits > 1) {
    prims::cluster_fence_shared();
    prims::cluster_arrive_relaxed();
    prims::cluster_wait();
  } else {
    __syncthreads();
  }
}

/// No CTA ends before the others have read its sums. Reads of a thread are
/// over when it arrives, since what it stored depends on them; its stores need not be.
__device__ __forceinline__ void split_end(int num_splits) {
  if (num_splits == 1) return;
  prims::cluster_arrive_relaxed();
  prims::cluster_wait();
}

#endif

/// The grid may be larger, see with_idle_ctas().
template <class T>
__host__ __device__ constexpr int num_working_ctas(const GemmArgs& args, int num_splits) {
  return args.num_tiles * T::kPacked * num_splits;
}

template <class T>
__global__ void __launch_bounds__(T::kThreads, T::kCtasPerSm)
    gemm_sm90_split(const GemmArgs args, int num_splits, const __grid_constant__ SplitMaps maps) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ __align__(1024) uint8_t shared[];
  prims::allow_next_kernel();  // it waits for this one's end before it reads what this one writes
  if (static_cast<int>(blockIdx.x) >= num_working_ctas<T>(args, num_splits)) {
    prims::wait_for_previous_kernel();  // the next launch has been placed by then
    return;
  }
  const SplitWork<T> work(args, num_splits);
  const SplitPipeline<T> pipeline{shared};
  if (threadIdx.x / 32 == T::kConsumers / 32 && prims::elect_one()) {
    split_init_barriers<T>(pipeline);
  }
  if (threadIdx.x == T::kThreads - 1) split_share_out<T>(args, work, pipeline.end());
  __syncthreads();
  if (threadIdx.x >= T::kConsumers) {
    split_produce<T>(args, work, pipeline, maps);
    split_sync(num_splits);
    split_end(num_splits);
    return;
  }
  split_consume<T>(args, work, pipeline);
  split_add_teams<T>(work, pipeline);
  split_sync(num_splits);
  split_store<T>(args, work, pipeline);
  split_end(num_splits);
#endif
}

template <class T>
LaunchShape shape_of(const GemmArgs& args, const SplitPlan& plan, cudaStream_t stream) {
  COMET_CUDA(cudaFuncSetAttribute(gemm_sm90_split<T>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  T::kSharedBytes));
  const int num_ctas = with_idle_ctas(num_working_ctas<T>(args, plan.num_splits), plan.num_splits);
  return {.grid = dim3(static_cast<unsigned>(num_ctas)),
          .threads = T::kThreads,
          .shared_bytes = T::kSharedBytes,
          .stream = stream,
          .cluster = dim3(static_cast<unsigned>(plan.num_splits))};
}

/// Levels [blocks, rows] in boxes of kLevelBlocks blocks × the rows of a tile.
template <class T>
CUtensorMap level_map(const GemmArgs& args, const void* levels) {
  return make_row_map({.data = levels,
                       .row_bytes = int64_t{args.num_tiles} * kTileRows,
                       .box_bytes = T::kRows,
                       .box_rows = T::kLevelBlocks,
                       .num_rows = args.blocks});
}

template <class T>
SplitMaps maps_of(const GemmArgs& args, const CUtensorMap& codes) {
  SplitMaps maps{};
  maps.codes = codes;
  maps.packed = make_row_map({.data = args.packed,
                              .row_bytes = SplitPackedMap<T>::kRowBytes,
                              .box_bytes = SplitPackedMap<T>::kBoxBytes,
                              .box_rows = SplitPackedMap<T>::kRowsOfBlock});
  if constexpr (T::kHasLevels) {
    maps.multiplier = level_map<T>(args, args.multiplier);
    maps.offset = level_map<T>(args, args.offset);
  }
  return maps;
}

struct Launch {
  const GemmArgs& args;
  const SplitPlan& plan;
  const CUtensorMap& x_map;
  cudaStream_t stream;

  template <class T>
  void kernel() const {
    launch_overlapped(shape_of<T>(args, plan, stream), gemm_sm90_split<T>, args, plan.num_splits,
                      maps_of<T>(args, x_map));
  }
};

struct Count {
  const GemmArgs& args;
  const SplitPlan& plan;
  int& clusters;

  template <class T>
  void kernel() const {
    clusters = count_clusters(shape_of<T>(args, plan, nullptr), gemm_sm90_split<T>);
  }
};

template <WeightKind kKind, int kTokens, bool kTwo>
using LoneTile =
    SplitTraits<kKind, 64, kTokens, split_alone_teams(kKind, kTokens, kTwo), kTwo, true>;

template <WeightKind kKind, bool kTwo, class Do>
void with_lone_tile(const SplitPlan& plan, const Do& act) {
  if (plan.tile_tokens == 64) return act.template kernel<LoneTile<kKind, 64, kTwo>>();
  if (plan.tile_tokens == 32) return act.template kernel<LoneTile<kKind, 32, kTwo>>();
  act.template kernel<LoneTile<kKind, 16, kTwo>>();
}

/// Of what split_suits() lets through.
template <WeightKind kKind, bool kTwo, class Do>
void with_half_tile(const SplitPlan& plan, const Do& act) {
  if (plan.is_alone) return with_lone_tile<kKind, kTwo>(plan, act);
  if constexpr (kKind == WeightKind::kProgressive) {
    if (plan.tile_tokens == 64) return act.template kernel<SplitTraits<kKind, 64, 64, 2, kTwo>>();
  }
  if (plan.tile_tokens == 32) return act.template kernel<SplitTraits<kKind, 64, 32, 2, kTwo>>();
  if constexpr (split_has_four_groups(kKind, kTwo)) {
    if (plan.num_teams == 4) return act.template kernel<SplitTraits<kKind, 64, 16, 4, kTwo>>();
  }
  act.template kernel<SplitTraits<kKind, 64, 16, 2, kTwo>>();
}

template <WeightKind kKind, bool kTwo, class Do>
void with_tile(const SplitPlan& plan, const Do& act) {
  if (plan.tile_rows == 64) return with_half_tile<kKind, kTwo>(plan, act);
  if (plan.tile_tokens == 64) {
    return act.template kernel<SplitTraits<kKind, 128, 64, 1, kTwo>>();
  }
  if (plan.tile_tokens == 32) return act.template kernel<SplitTraits<kKind, 128, 32, 1, kTwo>>();
  if constexpr (split_has_four_groups(kKind, kTwo)) {
    if (plan.num_teams == 2) return act.template kernel<SplitTraits<kKind, 128, 16, 2, kTwo>>();
  }
  act.template kernel<SplitTraits<kKind, 128, 16, 1, kTwo>>();
}

template <WeightKind kKind, class Do>
void with_segments(const GemmArgs& args, const SplitPlan& plan, const Do& act) {
  if (has_two_segments(args)) {
    with_tile<kKind, true>(plan, act);
  } else {
    with_tile<kKind, false>(plan, act);
  }
}

/// act.kernel<T>() with what the arguments and the plan ask for.
template <class Do>
void with_traits(const GemmArgs& args, const SplitPlan& plan, const Do& act) {
  if (args.kind == WeightKind::kProgressive) {
    with_segments<WeightKind::kProgressive>(args, plan, act);
  } else {
    with_segments<WeightKind::kChannel>(args, plan, act);
  }
}

}  // namespace

int count_split_clusters(const GemmArgs& args, const SplitPlan& plan) {
  int clusters = 0;
  with_traits(args, plan, Count{args, plan, clusters});
  return clusters;
}

void launch_gemm_split(const GemmArgs& args, const SplitPlan& plan, const void* x_map,
                       CUstream_st* stream) {
  if (args.tokens == 0 || args.num_tiles == 0) return;
  with_traits(args, plan, Launch{args, plan, *static_cast<const CUtensorMap*>(x_map), stream});
}

}  // namespace comet::formats::w4ax::cuda
