// The sm_90a kernel of gemm_wgmma.cuh, its launch and the choice of tile and split.
#include "comet/formats/w4a16/cuda/gemm_wgmma.cuh"

#include <algorithm>
#include <array>

#include "comet/device/cuda/cuda_check.h"

namespace comet::formats::w4a16_cuda {
namespace wgmma {
namespace {

template <class T>
__global__ void __launch_bounds__(T::kThreads, T::kCtasPerSm)
    gemm_wgmma(const __grid_constant__ CUtensorMap w_map, const __grid_constant__ CUtensorMap x_map,
               const Params p) {
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
      Loader<T>{p, &w_map, &x_map, shared, *shared.work}.run();
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

/// A launch of `num_tiles` clusters; `attributes` must outlive it.
template <class T>
cudaLaunchConfig_t config_of(int num_splits, int64_t num_tiles,
                             std::array<cudaLaunchAttribute, 2>& attributes) {
  COMET_CUDA(cudaFuncSetAttribute(gemm_wgmma<T>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  T::kSharedBytes));
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim.x = static_cast<unsigned>(num_splits);
  attributes[1].val.clusterDim.y = 1;
  attributes[1].val.clusterDim.z = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(num_splits * num_tiles));
  config.blockDim = dim3(T::kThreads);
  config.dynamicSmemBytes = T::kSharedBytes;
  config.attrs = attributes.data();
  config.numAttrs = num_splits > 1 ? 2 : 1;
  return config;
}

template <class T>
void launch(const GemmArgs& args, const GemmPlan& plan, const CUtensorMap& x_map,
            cudaStream_t stream) {
  const CUtensorMap w_map = make_block_map(args.blocks.data, args.blocks.block_bytes());
  Params p{};
  p.args = args;
  p.num_splits = plan.num_splits;
  p.num_row_tiles = (args.blocks.n + T::kRows - 1) / T::kRows;
  p.num_token_tiles = (args.rows + T::kTokens - 1) / T::kTokens;
  const int bytes = T::kInputBytes + T::kRowBlocks * args.blocks.block_bytes();
  p.stage_bytes = (bytes + kTileAlignment - 1) / kTileAlignment * kTileAlignment;
  p.num_stages =
      std::min(kMaxStages, (T::kSharedBytes - kTileAlignment - kControlBytes) / p.stage_bytes);
  std::array<cudaLaunchAttribute, 2> attributes{};
  cudaLaunchConfig_t config =
      config_of<T>(plan.num_splits, int64_t{p.num_row_tiles} * p.num_token_tiles, attributes);
  config.stream = stream;
  COMET_CUDA(cudaLaunchKernelEx(&config, gemm_wgmma<T>, w_map, x_map, p));
}

/// CTAs that the card holds at once, by number of splits: a cluster needs free SMs of one GPC.
template <class T>
std::array<int64_t, kMaxSplits + 1> count_resident() {
  std::array<int64_t, kMaxSplits + 1> resident{};
  for (int splits = 2; splits <= kMaxSplits; ++splits) {
    std::array<cudaLaunchAttribute, 2> attributes{};
    cudaLaunchConfig_t config = config_of<T>(splits, 64, attributes);
    config.attrs = &attributes[1];
    config.numAttrs = 1;
    int clusters = 0;
    COMET_CUDA(cudaOccupancyMaxActiveClusters(&clusters, gemm_wgmma<T>, &config));
    resident[static_cast<size_t>(splits)] = int64_t{clusters} * splits;
  }
  return resident;
}

/// The split of least cost, counted in thirds of a block of channels on an SM that is busy.
template <int kTokens>
GemmPlan plan_tile(const GemmArgs& args, int num_sms) {
  using T = Traits<kTokens, 1>;
  constexpr int64_t kStart = 12;  // of each wave of CTAs: launch, first bytes, stores
  constexpr int64_t kReduce = 6;  // of a cluster
  constexpr int64_t kBusy = 3;    // a block
  constexpr int64_t kLonely = 4;  // a block where an SM has one CTA but could have two
  static const std::array<int64_t, kMaxSplits + 1> kResident = count_resident<T>();
  const int64_t tiles =
      int64_t{(args.blocks.n + T::kRows - 1) / T::kRows} * ((args.rows + kTokens - 1) / kTokens);
  GemmPlan plan{kTokens, 1};
  int64_t best = 0;
  for (int splits = 1; splits <= std::min(kMaxSplits, args.blocks.num_k_blocks); ++splits) {
    const int64_t resident =
        splits == 1 ? int64_t{num_sms} * T::kCtasPerSm : kResident[static_cast<size_t>(splits)];
    if (resident == 0) continue;
    const int64_t ctas = tiles * splits;
    const int64_t waves = (ctas + resident - 1) / resident;
    const int64_t on_sm = std::max((ctas + num_sms - 1) / num_sms, (waves - 1) * T::kCtasPerSm + 1);
    const int64_t blocks = (args.blocks.num_k_blocks + splits - 1) / splits;
    const int64_t cost = on_sm * blocks * (on_sm < T::kCtasPerSm ? kLonely : kBusy) +
                         waves * (kStart + (splits > 1 ? kReduce : 0));
    if (splits == 1 || cost < best) {
      best = cost;
      plan.num_splits = splits;
    }
  }
  return plan;
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
  if (args.rows <= 8) return wgmma::plan_tile<8>(args, num_sms);
  if (args.rows <= 16) return wgmma::plan_tile<16>(args, num_sms);
  if (args.rows <= 32) return wgmma::plan_tile<32>(args, num_sms);
  if (args.rows <= 64) return wgmma::plan_tile<64>(args, num_sms);
  return wgmma::plan_tile<128>(args, num_sms);
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
