// Kernel and launch of gemm_sm90_split.h; what the kernel does stands in gemm_sm90_split.cuh.
#include "comet/formats/w4ax/cuda/gemm_sm90_split.cuh"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <array>

#include "comet/device/cuda/cuda_check.h"
#include "comet/device/cuda/tensor_map.h"
#include "comet/formats/w4ax/cuda/gemm_sm90_split_store.cuh"

namespace comet::formats::w4ax::cuda {
namespace {

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

/// One thread, of the first producer warp.
template <class T>
__device__ __forceinline__ void split_init_barriers(const SplitPipeline<T>& pipeline) {
#pragma unroll
  for (int stage = 0; stage < T::kStages; ++stage) {
    prims::mbarrier_init(pipeline.full(stage), T::kProducers);
    prims::mbarrier_init(pipeline.empty(stage), T::kTeamWarps * T::kSharing);
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

/// No CTA ends before the others have read its sums and freed its stages. Reads of a thread are
/// over when it arrives, since what it stored depends on them; its stores need not be.
template <class T>
__device__ __forceinline__ void split_end(int num_splits) {
  if (num_splits * T::kSharing == 1) return;
  prims::cluster_arrive_relaxed();
  prims::cluster_wait();
}

#endif

/// The grid may be larger, see config_of().
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
  const SplitPipeline<T> pipeline{shared, static_cast<uint32_t>(work.rank * T::kSharing)};
  if (threadIdx.x / 32 == T::kConsumers / 32 && prims::elect_one()) {
    split_init_barriers<T>(pipeline);
  }
  if constexpr (T::kSharing == 1) {
    __syncthreads();
  } else {  // the other CTA's barriers are there, too
    __syncwarp();
    prims::cluster_arrive_relaxed();
    prims::cluster_wait();
  }
  if (threadIdx.x >= T::kConsumers) {
    split_produce<T>(args, work, pipeline, maps);
    split_sync(num_splits);
    split_end<T>(num_splits);
    return;
  }
  split_consume<T>(args, work, pipeline);
  split_sync(num_splits);
  split_store<T>(args, work, pipeline);
  split_end<T>(num_splits);
#endif
}

int count_sms() {
  int device = 0;
  int num_sms = 0;
  COMET_CUDA(cudaGetDevice(&device));
  COMET_CUDA(cudaDeviceGetAttribute(&num_sms, cudaDevAttrMultiProcessorCount, device));
  return num_sms;
}

/// A launch of the product; `attributes` must outlive it. Somewhat fewer CTAs than SMs are filled
/// up with idle ones: else the SMs that have none now get two of the next launch, which comes in
/// meanwhile, and two on an SM take twice as long.
template <class T>
cudaLaunchConfig_t config_of(const GemmArgs& args, const SplitPlan& plan,
                             std::array<cudaLaunchAttribute, 2>& attributes) {
  COMET_CUDA(cudaFuncSetAttribute(gemm_sm90_split<T>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  T::kSharedBytes));
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  const int cluster = plan.num_splits * T::kSharing;
  const int num_working = num_working_ctas<T>(args, plan.num_splits);
  const int num_sms = count_sms();
  const int num_ctas =
      num_working > num_sms / 2 ? std::max(num_working, num_sms / cluster * cluster) : num_working;
  attributes[1].val.clusterDim.x = static_cast<unsigned>(cluster);
  attributes[1].val.clusterDim.y = 1;
  attributes[1].val.clusterDim.z = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(num_ctas));
  config.blockDim = dim3(T::kThreads);
  config.dynamicSmemBytes = T::kSharedBytes;
  config.attrs = attributes.data();
  config.numAttrs = cluster > 1 ? 2 : 1;
  return config;
}

/// Levels [blocks, rows] in boxes of kLevelBlocks blocks × the rows of a tile.
CUtensorMap level_map(const GemmArgs& args, const void* levels, int box_rows) {
  const int64_t rows = int64_t{args.num_tiles} * kTileRows;
  return make_tensor_map({.data = levels,
                          .dtype = DType::kU8,
                          .rows = args.blocks,
                          .columns = rows,
                          .stride = rows,
                          .box_rows = box_rows,
                          .is_swizzled = false});
}

template <class T>
SplitMaps maps_of(const GemmArgs& args, const CUtensorMap& codes) {
  SplitMaps maps{};
  maps.codes = codes;
  maps.packed = make_block_map(args.packed, T::kCopyBytes);
  if constexpr (T::kHasLevels) {
    maps.multiplier = level_map(args, args.multiplier, T::kLevelBlocks);
    maps.offset = level_map(args, args.offset, T::kLevelBlocks);
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
    std::array<cudaLaunchAttribute, 2> attributes{};
    cudaLaunchConfig_t config = config_of<T>(args, plan, attributes);
    config.stream = stream;
    COMET_CUDA(cudaLaunchKernelEx(&config, gemm_sm90_split<T>, args, plan.num_splits,
                                  maps_of<T>(args, x_map)));
  }
};

struct Count {
  const GemmArgs& args;
  const SplitPlan& plan;
  int& clusters;

  template <class T>
  void kernel() const {
    std::array<cudaLaunchAttribute, 2> attributes{};
    cudaLaunchConfig_t config = config_of<T>(args, plan, attributes);
    config.attrs = &attributes[1];
    config.numAttrs = 1;
    COMET_CUDA(cudaOccupancyMaxActiveClusters(&clusters, gemm_sm90_split<T>, &config));
  }
};

/// Of what split_suits() lets through.
template <WeightKind kKind, bool kTwo, class Do>
void with_half_tile(const GemmArgs& args, const SplitPlan& plan, const Do& act) {
  if (plan.tile_tokens == 64) {
    using Alone = SplitTraits<kKind, 64, 64, 2, 1, kTwo, true>;
    if (plan.num_sharing == 2) return act.template kernel<SplitTraits<kKind, 64, 64, 2, 2, kTwo>>();
    if constexpr (kKind == WeightKind::kChannel) {  // always alone
      return act.template kernel<Alone>();
    } else {
      return split_is_alone(args, plan)
                 ? act.template kernel<Alone>()
                 : act.template kernel<SplitTraits<kKind, 64, 64, 2, 1, kTwo>>();
    }
  }
  if (plan.tile_tokens == 32) return act.template kernel<SplitTraits<kKind, 64, 32, 2, 1, kTwo>>();
  if constexpr (split_has_four_groups(kKind, kTwo)) {
    if (plan.num_teams == 4) return act.template kernel<SplitTraits<kKind, 64, 16, 4, 1, kTwo>>();
  }
  act.template kernel<SplitTraits<kKind, 64, 16, 2, 1, kTwo>>();
}

template <WeightKind kKind, bool kTwo, class Do>
void with_tile(const GemmArgs& args, const SplitPlan& plan, const Do& act) {
  if (plan.tile_rows == 64) return with_half_tile<kKind, kTwo>(args, plan, act);
  if (plan.tile_tokens == 64) {
    return plan.num_sharing == 2 ? act.template kernel<SplitTraits<kKind, 128, 64, 1, 2, kTwo>>()
                                 : act.template kernel<SplitTraits<kKind, 128, 64, 1, 1, kTwo>>();
  }
  if (plan.tile_tokens == 32) return act.template kernel<SplitTraits<kKind, 128, 32, 1, 1, kTwo>>();
  if constexpr (split_has_four_groups(kKind, kTwo)) {
    if (plan.num_teams == 2) return act.template kernel<SplitTraits<kKind, 128, 16, 2, 1, kTwo>>();
  }
  act.template kernel<SplitTraits<kKind, 128, 16, 1, 1, kTwo>>();
}

template <WeightKind kKind, class Do>
void with_segments(const GemmArgs& args, const SplitPlan& plan, const Do& act) {
  if (args.int4_blocks > 0 && args.int4_blocks < args.blocks) {
    with_tile<kKind, true>(args, plan, act);
  } else {
    with_tile<kKind, false>(args, plan, act);
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
