// The sm_90a kernel of gemm_wgmma.cuh, its launch and the choice of tile and split.
#include "comet/formats/w4a16/cuda/gemm_wgmma.cuh"

#include <algorithm>

#include "comet/device/cuda/cuda_check.h"

namespace comet::formats::w4a16_cuda {
namespace wgmma {
namespace {

template <class T>
__global__ void __launch_bounds__(T::kThreads, 1)
    gemm_wgmma(const __grid_constant__ CUtensorMap x_map, const Params p) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ __align__(1024) uint8_t raw_shared[];
  const Shared shared = shared_storage(raw_shared, p);
  prims::allow_next_kernel();
  if (threadIdx.x == 0) *shared.work = work_of(p, static_cast<int>(blockIdx.x));
  if (static_cast<int>(threadIdx.x) < p.num_stages) {
    prims::mbarrier_init(shared.full + threadIdx.x, 1);
    prims::mbarrier_init(shared.empty + threadIdx.x, T::kConsumers / 32);
    prims::mbarrier_init_fence();
  }
  __syncthreads();

  if (threadIdx.x >= T::kConsumers) {
    take_registers<T>(false);
    if (threadIdx.x == T::kConsumers) {
      Loader<T>{p, &x_map, shared, *shared.work}.run();
    }
    __syncwarp();
    if (p.num_splits > 1) {
      prims::cluster_sync();
      prims::cluster_sync();
    }
    return;
  }

  take_registers<T>(true);
  float totals[T::kTokens / 2];
  multiply_stages<T>(totals, p, shared, shared.work->k_end - shared.work->k_begin);
  prims::named_barrier_sync(1, T::kConsumers);  // no one reads stages any more
  auto* sums = reinterpret_cast<float*>(shared.stages);
  const int row = static_cast<int>(threadIdx.x) / 32 * 16 + static_cast<int>(threadIdx.x) % 32 / 4;
  fragment_to_tile<T::kTokens>(sums, T::kRows, totals, row, static_cast<int>(threadIdx.x) % 4);
  if (p.num_splits > 1) {
    prims::cluster_sync();
  } else {
    prims::named_barrier_sync(1, T::kConsumers);
  }
  store_share<T>(p, sums, shared.work->tile, shared.work->rank);
  if (p.num_splits > 1) prims::cluster_sync();  // this CTA's sums are read until here
#else
  __trap();
#endif
}

template <class T>
void launch(const GemmArgs& args, const GemmPlan& plan, const CUtensorMap& x_map,
            cudaStream_t stream) {
  Params p{};
  p.args = args;
  p.num_splits = plan.num_splits;
  p.num_row_tiles = (args.blocks.n + T::kRows - 1) / T::kRows;
  p.num_token_tiles = (args.rows + T::kTokens - 1) / T::kTokens;
  const int bytes = T::kInputBytes + T::kRowBlocks * args.blocks.block_bytes();
  p.stage_bytes = (bytes + kTileAlignment - 1) / kTileAlignment * kTileAlignment;
  p.num_stages =
      std::min(kMaxStages, (kSharedBytes - kTileAlignment - kControlBytes) / p.stage_bytes);
  COMET_CUDA(cudaFuncSetAttribute(gemm_wgmma<T>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  kSharedBytes));
  cudaLaunchAttribute attributes[2]{};
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim.x = static_cast<unsigned>(plan.num_splits);
  attributes[1].val.clusterDim.y = 1;
  attributes[1].val.clusterDim.z = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(p.num_splits * p.num_row_tiles * p.num_token_tiles));
  config.blockDim = dim3(T::kThreads);
  config.dynamicSmemBytes = kSharedBytes;
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = plan.num_splits > 1 ? 2 : 1;
  COMET_CUDA(cudaLaunchKernelEx(&config, gemm_wgmma<T>, x_map, p));
}

template <int kTokens>
void launch_groups(const GemmArgs& args, const GemmPlan& plan, const CUtensorMap& x_map,
                   cudaStream_t stream) {
  if (args.blocks.num_groups == 1) {
    launch<Traits<kTokens, 1>>(args, plan, x_map, stream);
  } else {
    launch<Traits<kTokens, 4>>(args, plan, x_map, stream);
  }
}

}  // namespace
}  // namespace wgmma

GemmPlan plan_gemm_wgmma(const GemmArgs& args, int num_sms) {
  constexpr int kNumClusterGroups = 8;  // GPCs of an H100 or H200, 16 SMs or a few more each
  constexpr int kGroupSms = 16;
  constexpr int kStartBlocks = 4;   // what a CTA costs besides its blocks of channels, in blocks
  constexpr int kReduceBlocks = 2;  // and a cluster's reduction
  GemmPlan plan;
  plan.tile_tokens = 128;
  for (const int tokens : {8, 16, 32, 64}) {
    if (plan.tile_tokens == 128 && args.rows <= tokens) plan.tile_tokens = tokens;
  }
  const int tile_rows = plan.tile_tokens <= 64 ? 256 : 128;
  const int64_t tiles = int64_t{(args.blocks.n + tile_rows - 1) / tile_rows} *
                        ((args.rows + plan.tile_tokens - 1) / plan.tile_tokens);
  int64_t best = 0;
  for (int splits = 1; splits <= std::min(kMaxSplits, args.blocks.num_k_blocks); splits *= 2) {
    const int in_clusters = kNumClusterGroups * (kGroupSms / splits * splits);
    const int64_t waves_of = splits == 1 ? num_sms : std::min(num_sms, in_clusters);
    const int64_t waves = (tiles * splits + waves_of - 1) / waves_of;
    const int64_t blocks = (args.blocks.num_k_blocks + splits - 1) / splits;
    const int64_t cost = waves * (blocks + kStartBlocks + (splits > 1 ? kReduceBlocks : 0));
    if (splits == 1 || cost < best) {
      best = cost;
      plan.num_splits = splits;
    }
  }
  return plan;
}

void launch_gemm_wgmma(const GemmArgs& args, const GemmPlan& plan, const void* x_map,
                       cudaStream_t stream) {
  if (args.rows == 0) return;
  const auto& map = *static_cast<const CUtensorMap*>(x_map);
  switch (plan.tile_tokens) {
    case 8:
      return wgmma::launch_groups<8>(args, plan, map, stream);
    case 16:
      return wgmma::launch_groups<16>(args, plan, map, stream);
    case 32:
      return wgmma::launch_groups<32>(args, plan, map, stream);
    case 64:
      return wgmma::launch_groups<64>(args, plan, map, stream);
    default:
      return wgmma::launch_groups<128>(args, plan, map, stream);
  }
}

}  // namespace comet::formats::w4a16_cuda
