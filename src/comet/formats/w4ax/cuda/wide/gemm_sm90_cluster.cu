// Kernel and launch of the tiles of gemm_sm90_wide.h that a cluster shares; what the kernel does
// stands in gemm_sm90_cluster.cuh.
#include "comet/formats/w4ax/cuda/wide/gemm_sm90_cluster.cuh"

#include <cuda_runtime_api.h>

#include "comet/device/cuda/cuda_check.h"
#include "comet/device/cuda/overlapped_launch.cuh"
#include "comet/formats/w4ax/cuda/wide/gemm_sm90_wide_store.cuh"

namespace comet::formats::w4ax::cuda {
namespace {

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

/// This CTA's tokens, 16 after 16.
template <class T>
__device__ __forceinline__ void store_share(const GemmArgs& args, const Sm90Pipeline<T>& pipeline,
                                            const Sm90Share& share) {
  const Sm90Table<T> table(pipeline, 0);
  const int num_tokens = args.tokens - share.place.token_tile * T::kTokens;
  const int in_tile = num_tokens < T::kTokens ? num_tokens : T::kTokens;
  const int num_passes = (in_tile + T::kPassTokens - 1) / T::kPassTokens;
  const bool is_there = share.place.row_tile * T::kTiles + Sm90WideThread<T>().tile() <
                        args.num_tiles;  // packed tiles may be odd in number
  if (!is_there) return;
  Sm90Parts<T> parts;
  if (T::kReadsAhead && share.rank < num_passes) parts.read(pipeline, share.rank, share.num_splits);
#pragma unroll 1
  for (int pass = share.rank; pass < num_passes; pass += share.num_splits) {
    int32_t low[8];
    if constexpr (T::kReadsAhead) {
      Sm90Parts<T> next = parts;
      if (pass + share.num_splits < num_passes) {
        next.read(pipeline, pass + share.num_splits, share.num_splits);
      }
      parts.add(low);
      parts = next;
    } else {
      parts.read(pipeline, pass, share.num_splits);
      parts.add(low);
    }
    const int first = pass * T::kPassTokens;
    if constexpr (T::kTwoSegments) {
      int32_t high[8] = {};
      sm90_high_multiply<T>(pipeline, {{T::kRing, 0}, 1}, first, false, high);
      sm90_wide_store<T, T::kPassTokens>(args, pipeline, table, share.place.token_tile, first, low,
                                         high);
    } else {
      sm90_wide_store<T, T::kPassTokens>(args, pipeline, table, share.place.token_tile, first, low,
                                         low);
    }
    __syncwarp();
  }
}

template <class T>
__device__ __forceinline__ void consume_share(const GemmArgs& args, const Sm90Pipeline<T>& pipeline,
                                              const Sm90Share& share) {
  sm90_fill_table<T>(args, Sm90Table<T>(pipeline, 0), share.place);
  int32_t sums[T::kSums] = {};
  sm90_wide_multiply<T>(pipeline, {{0, 0}, share.end - share.begin}, sums);
  prims::cp_async_wait<0>();
  prims::named_barrier_sync(1, T::kConsumers);  // tables are there, stages are read
  sm90_share_sums<T>(pipeline, sums);
  prims::cluster_fence_shared();
  prims::cluster_arrive_relaxed();
  prims::cluster_wait();
  store_share<T>(args, pipeline, share);
  // This CTA's sums are read until here. Reads of a thread are over when it arrives, since it has
  // written to shared memory what depends on them; its stores need not be.
  prims::cluster_arrive_relaxed();
  prims::cluster_wait();
}

#endif

template <class T>
__global__ void __launch_bounds__(T::kThreads, 1)
    gemm_sm90_cluster(const GemmArgs args, const Sm90Grid grid, int num_splits,
                      const __grid_constant__ Sm90Maps maps) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ __align__(1024) uint8_t shared[];
  prims::allow_next_kernel();  // it waits for this one's end before it reads what this one writes
  const Sm90Pipeline<T> pipeline{shared};
  sm90_init_barriers<T>(pipeline);
  const Sm90Share share = Sm90Share::of<T>(args, grid, num_splits);
  if (threadIdx.x >= T::kConsumers) {
    prims::registers_shrink<T::kProducerRegisters>();
    sm90_with_role<T>(Sm90ShareProducer<T>{args, maps, pipeline, share});
    return;  // who has ended is not waited for
  }
  prims::registers_grow<T::kConsumerRegisters>();
  prims::wait_for_previous_kernel();  // its scales may be read, what it read may be written
  consume_share<T>(args, pipeline, share);
#endif
}

template <class T>
LaunchShape shape_of(const Sm90Plan& plan, cudaStream_t stream) {
  COMET_CUDA(cudaFuncSetAttribute(gemm_sm90_cluster<T>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  T::kSharedBytes));
  return {.grid = dim3(static_cast<unsigned>(plan.num_ctas)),
          .threads = T::kThreads,
          .shared_bytes = T::kSharedBytes,
          .stream = stream,
          .cluster = dim3(static_cast<unsigned>(plan.num_splits))};
}

struct Launch {
  const GemmArgs& args;
  const Sm90Plan& plan;
  const Sm90Maps& maps;
  cudaStream_t stream;

  template <class T>
  void kernel() const {
    const Sm90Grid grid{(args.num_tiles + T::kTiles - 1) / T::kTiles,
                        (args.tokens + T::kTokens - 1) / T::kTokens, plan.num_whole};
    launch_overlapped(shape_of<T>(plan, stream), gemm_sm90_cluster<T>, args, grid, plan.num_splits,
                      maps);
  }
};

struct Count {
  const Sm90Plan& plan;
  int& clusters;

  template <class T>
  void kernel() const {
    clusters = count_clusters(shape_of<T>(plan, nullptr), gemm_sm90_cluster<T>);
  }
};

template <WeightKind kKind, bool kTwoSegments, class Do>
void with_tile(const Sm90Plan& plan, const Do& act) {
  plan.tile_rows == 256 ? act.template kernel<Sm90ClusterTraits<kKind, 256, 64, kTwoSegments>>()
                        : act.template kernel<Sm90ClusterTraits<kKind, 128, 256, kTwoSegments>>();
}

/// act.kernel<T>() with what the arguments ask for.
template <class Do>
void with_traits(const GemmArgs& args, const Sm90Plan& plan, const Do& act) {
  const bool has_two = has_two_segments(args);
  if (args.kind == WeightKind::kProgressive) {
    has_two ? with_tile<WeightKind::kProgressive, true>(plan, act)
            : with_tile<WeightKind::kProgressive, false>(plan, act);
  } else {
    has_two ? with_tile<WeightKind::kChannel, true>(plan, act)
            : with_tile<WeightKind::kChannel, false>(plan, act);
  }
}

}  // namespace

void launch_gemm_sm90_cluster(const GemmArgs& args, const Sm90Plan& plan, const Sm90Maps& maps,
                              CUstream_st* stream) {
  with_traits(args, plan, Launch{args, plan, maps, stream});
}

int count_sm90_clusters(const GemmArgs& args, const Sm90Plan& plan) {
  int clusters = 0;
  with_traits(args, plan, Count{plan, clusters});
  return clusters;
}

}  // namespace comet::formats::w4ax::cuda
