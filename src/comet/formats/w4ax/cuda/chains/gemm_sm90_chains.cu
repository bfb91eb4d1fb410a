// Kernel and launch of gemm_sm90_chains.h; what the kernel does stands in gemm_sm90_chains.cuh.
#include "comet/formats/w4ax/cuda/chains/gemm_sm90_chains.cuh"

#include <cuda_runtime_api.h>

#include "comet/base/check.h"
#include "comet/device/cuda/cuda_check.h"
#include "comet/device/cuda/overlapped_launch.cuh"
#include "comet/device/cuda/tensor_map.h"

namespace comet::formats::w4ax::cuda {
namespace {

template <class T>
__global__ void __launch_bounds__(T::kThreads, T::kCtasPerSm)
    gemm_sm90_chains(const GemmArgs args, const ChainsGrid grid, float4* workspace,
                     const __grid_constant__ ChainsMaps maps) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ __align__(1024) uint8_t shared[];
  prims::allow_next_kernel();  // it waits for this one's end before it reads what this one writes
  if (!T::kWalks && static_cast<int>(blockIdx.x) >= grid.num_tiles() * grid.num_splits) {
    prims::wait_for_previous_kernel();  // the next launch has been placed by then
    return;
  }
  const ChainsPipeline<T> pipeline{shared};
  chains_init_barriers<T>(pipeline);
  if (threadIdx.x >= T::kConsumers) {
    prims::registers_shrink<T::kProducerRegisters>();
    ChainsProducer<T>{args, grid, pipeline, maps}.run();
    return;  // who has ended is not waited for
  }
  prims::registers_grow<T::kConsumerRegisters>();
  prims::wait_for_previous_kernel();  // what it read may be written
  ChainsConsumer<T>{args, grid, pipeline, workspace, {}, {}}.run();
#endif
}

template <class T>
LaunchShape shape_of(const ChainsPlan& plan, cudaStream_t stream) {
  COMET_CUDA(cudaFuncSetAttribute(gemm_sm90_chains<T>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  T::kSharedBytes));
  const int num_ctas = T::kWalks ? plan.num_ctas : with_idle_ctas(plan.num_ctas, plan.num_splits);
  return {.grid = dim3(static_cast<unsigned>(num_ctas)),
          .threads = T::kThreads,
          .shared_bytes = T::kSharedBytes,
          .stream = stream,
          .cluster = dim3(static_cast<unsigned>(plan.num_splits))};
}

/// [blocks, num_tiles] rows of parameters.
CUtensorMap map_of_params(const void* params, int64_t row_bytes) {
  return make_row_map(
      {.data = params, .row_bytes = row_bytes, .box_bytes = row_bytes, .box_rows = 1});
}

template <class T>
ChainsMaps maps_of(const GemmArgs& args, const CUtensorMap& codes) {
  ChainsMaps maps{};
  maps.codes = codes;
  maps.packed = make_row_map({.data = args.packed,
                              .row_bytes = kChainsMapBytes,
                              .box_bytes = kChainsMapBytes,
                              .box_rows = kChainsMapRows});
  if constexpr (T::kHasRowScales) maps.params = map_of_params(args.group_scale, 2 * kTileRows);
  if constexpr (T::kHasLevels) {
    maps.params = map_of_params(args.multiplier, kTileRows);
    maps.offset = map_of_params(args.offset, kTileRows);
  }
  return maps;
}

struct Launch {
  const GemmArgs& args;
  const ChainsPlan& plan;
  const CUtensorMap& x_map;
  void* workspace;
  cudaStream_t stream;

  template <class T>
  void kernel() const {
    const ChainsGrid grid{{args.num_tiles, (args.tokens + T::kTokens - 1) / T::kTokens, 0},
                          plan.num_splits,
                          num_block_chains(args)};
    launch_overlapped(shape_of<T>(plan, stream), gemm_sm90_chains<T>, args, grid,
                      static_cast<float4*>(workspace), maps_of<T>(args, x_map));
  }
};

struct Count {
  const ChainsPlan& plan;
  int& clusters;

  template <class T>
  void kernel() const {
    clusters = count_clusters(shape_of<T>(plan, nullptr), gemm_sm90_chains<T>);
  }
};

template <WeightKind kKind, class Do>
void with_tile(const ChainsPlan& plan, const Do& act) {
  switch (plan.tile_tokens) {
    case 16:
      return act.template kernel<ChainsTraits<kKind, 16>>();
    case 32:
      return act.template kernel<ChainsTraits<kKind, 32>>();
    case 64:
      return act.template kernel<ChainsTraits<kKind, 64>>();
    default:
      return act.template kernel<ChainsTraits<kKind, 128>>();
  }
}

/// act.kernel<T>() with what the arguments and the plan ask for.
template <class Do>
void with_traits(const GemmArgs& args, const ChainsPlan& plan, const Do& act) {
  switch (args.kind) {
    case WeightKind::kChannel:
      return with_tile<WeightKind::kChannel>(plan, act);
    case WeightKind::kProgressive:
      return with_tile<WeightKind::kProgressive>(plan, act);
    case WeightKind::kGroup:
      return with_tile<WeightKind::kGroup>(plan, act);
  }
}

}  // namespace

int count_chains_clusters(const GemmArgs& args, const ChainsPlan& plan) {
  int clusters = 0;
  with_traits(args, plan, Count{plan, clusters});
  return clusters;
}

void launch_gemm_chains(const GemmArgs& args, const ChainsPlan& plan, const void* x_map,
                        void* workspace, CUstream_st* stream) {
  if (args.tokens == 0 || args.num_tiles == 0) return;
  // A cluster has one tile: its barrier waits for producers, too, who would be busy with the next.
  const int32_t num_parts = num_chain_tiles(args, plan.tile_tokens) * plan.num_splits;
  COMET_CHECK(plan.num_ctas == num_parts ||
                  (chains_walk(plan.tile_tokens) && plan.num_splits == 1 && plan.num_ctas > 0),
              "{} CTAs for {} parts of tiles", plan.num_ctas, num_parts);
  const Launch launch{args, plan, *static_cast<const CUtensorMap*>(x_map), workspace, stream};
  with_traits(args, plan, launch);
}

}  // namespace comet::formats::w4ax::cuda
