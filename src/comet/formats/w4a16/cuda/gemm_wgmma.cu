// The sm_90a kernel of gemm_wgmma.cuh, its launch and the choice of tile and split.
#include "comet/formats/w4a16/cuda/gemm_wgmma.cuh"

#include <algorithm>
#include <array>

#include "comet/device/cuda/cuda_check.h"
#include "comet/device/cuda/overlapped_launch.cuh"
#include "comet/formats/w4a16/cuda/gemm_wgmma_consumer.cuh"
#include "comet/formats/w4a16/cuda/gemm_wgmma_store.cuh"

namespace comet::formats::w4a16_cuda {
namespace wgmma {
namespace {

template <class T>
__global__ void __launch_bounds__(T::kThreads, T::kCtasPerSm)
    gemm_wgmma(const __grid_constant__ CUtensorMap w_map, const __grid_constant__ CUtensorMap x_map,
               const Params p) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ __align__(1024) uint8_t raw_shared[];
  prims::allow_next_kernel();  // it waits for this one's end before it reads what this one writes
  const Shared<T> shared(raw_shared, p);
  if (threadIdx.x >= T::kConsumers) {
    const Loader<T> loader{p, &w_map, &x_map, shared, work_of(p, static_cast<int>(blockIdx.x))};
    // Elected each time, so that ptxas makes no loop over lanes of each copy.
    const bool is_loader = threadIdx.x / 32 == T::kConsumers / 32;
    if (is_loader && prims::elect_one()) {
      shared.init_barriers(p.num_stages);
      *shared.work = loader.work;
      loader.start();
    }
    __syncthreads();
    take_registers<T>(false);
    if (is_loader && prims::elect_one()) loader.run();
    __syncwarp();
    sync_sums(p.num_splits);
    end_reads(p.num_splits);
    return;
  }
  __syncthreads();
  take_registers<T>(true);
  float totals[T::kSums];
  Consumer<T>(p, shared, shared.weights).run(totals, shared.work->k_end - shared.work->k_begin);
  prims::named_barrier_sync(1, T::kConsumers);  // no one reads stages any more
  const int thread = static_cast<int>(threadIdx.x);
  auto* sums = reinterpret_cast<float*>(shared.inputs);
  const int row = thread % 256 / 32 * 16 + thread % 32 / 4;
  float* own = T::kTurns == 1 ? sums : sums + thread / 256 * T::kTileFloats;
  fragment_to_tile<T::kTokens>(own, T::kRows, totals, row, thread % 4);
  sync_sums(p.num_splits);
  store_share<T>(p, sums, *shared.work);
  end_reads(p.num_splits);
#else
  __trap();
#endif
}

/// A launch of `num_tiles` clusters.
template <class T>
LaunchShape shape_of(int num_splits, int64_t num_tiles, cudaStream_t stream) {
  COMET_CUDA(cudaFuncSetAttribute(gemm_wgmma<T>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  T::kSharedBytes));
  return {.grid = dim3(static_cast<unsigned>(num_splits * num_tiles)),
          .threads = T::kThreads,
          .shared_bytes = T::kSharedBytes,
          .stream = stream,
          .cluster = dim3(static_cast<unsigned>(num_splits))};
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
  p.stage_bytes = T::kRowBlocks * args.blocks.block_bytes();
  p.num_stages = std::min(kMaxStages, T::kRoom / p.stage_bytes);
  const int64_t num_tiles = int64_t{p.num_row_tiles} * p.num_token_tiles;
  launch_overlapped(shape_of<T>(plan.num_splits, num_tiles, stream), gemm_wgmma<T>, w_map, x_map,
                    p);
}

/// Tiles that the card works on at once, by number of splits: a cluster needs free SMs of one GPC.
using ResidentTiles = std::array<int, kMaxSplits + 1>;

template <class T>
ResidentTiles count_resident(int num_sms) {
  ResidentTiles resident{};
  resident[1] = num_sms * T::kCtasPerSm;
  for (int splits = 2; splits <= kMaxSplits; ++splits) {
    resident[static_cast<size_t>(splits)] =
        count_clusters(shape_of<T>(splits, 64, nullptr), gemm_wgmma<T>);
  }
  return resident;
}

/// Estimates in clocks of an SM (docs/kernels/w4a16_cuda.md): a block of 128 rows of a CTA that is
/// alone on its SM, and of one beside another; start and end of a tile; a part that is joined.
struct TileCost {
  int alone;
  int beside;
  int end;
  int part;
};
constexpr double kBlockClocks = 4.25;    // of the card's memory, for a block
constexpr double kL2BytesAClock = 3131;  // to all SMs: 6.2 TB/s

template <class T>
constexpr TileCost cost_of() {
  if (T::kTokens == 128) return {1160, 1160, 8000, 1000};
  constexpr bool kTwo = T::kCtasPerSm == 2;
  if (T::kTokens == 64) {
    return kTwo ? TileCost{650, 1250, 4500, 300} : TileCost{620, 620, 5500, 300};
  }
  if (T::kTokens == 32)
    return kTwo ? TileCost{500, 1050, 4000, 200} : TileCost{480, 480, 5000, 200};
  return kTwo ? TileCost{430, 1050, 4000, 150} : TileCost{430, 430, 5000, 150};
}

struct Candidate {
  GemmPlan plan;
  double clocks = 0;
};

/// The split of least estimated time, if that is less than `best`.
template <class T>
void consider(const GemmArgs& args, int num_sms, Candidate& best) {
  static const ResidentTiles kResident = count_resident<T>(num_sms);
  constexpr TileCost kCost = cost_of<T>();
  const int k_blocks = args.blocks.num_k_blocks;
  const int64_t tiles = int64_t{(args.blocks.n + T::kRows - 1) / T::kRows} *
                        ((args.rows + T::kTokens - 1) / T::kTokens);
  const auto stages = static_cast<double>(tiles * k_blocks);
  const double stage_bytes = T::kRowBlocks * args.blocks.block_bytes() + T::kInputBytes;
  const double copies =
      std::max(stages * T::kRowBlocks * kBlockClocks, stages * stage_bytes / kL2BytesAClock);
  for (int splits = 1; splits <= std::min(kMaxSplits, k_blocks); ++splits) {
    const int64_t resident = kResident[static_cast<size_t>(splits)];
    if (resident == 0) continue;
    const int64_t rounds = (tiles + resident - 1) / resident;
    const int64_t of_last = tiles - (rounds - 1) * resident;
    // CTAs of a cluster that fit an SM together are put there, though others be free.
    const int64_t last_ctas = of_last * splits * (T::kCtasPerSm == 2 && splits > 1 ? 2 : 1);
    const int last = last_ctas <= num_sms ? kCost.alone : kCost.beside;
    const auto products = static_cast<double>(int64_t{(k_blocks + splits - 1) / splits} *
                                              T::kRowBlocks * ((rounds - 1) * kCost.beside + last));
    const double clocks = std::max(products, copies) + 0.1 * std::min(products, copies) +
                          static_cast<double>(rounds * kCost.end) +
                          (splits > 1 ? static_cast<double>(rounds * splits * kCost.part) : 0.0);
    if (best.clocks == 0 || clocks < best.clocks) {
      best = {{T::kTokens, splits, T::kShape}, clocks};
    }
  }
}

/// Tall tiles among all SMs, or so many CTAs to each tile as fit.
template <int kTokens>
void consider_tall(const GemmArgs& args, int num_sms, Candidate& best) {
  using T = Traits<kTokens, Form::kScaled, TileShape::kTall>;
  constexpr int kStageClocks = kTokens == 64 ? 1310 : kTokens == 32 ? 1150 : 1000;
  constexpr int kEnds = 10000;
  constexpr int kJoin = 3000;
  const int64_t tiles = int64_t{(args.blocks.n + T::kRows - 1) / T::kRows} *
                        ((args.rows + T::kTokens - 1) / T::kTokens);
  const int64_t stages = tiles * args.blocks.num_k_blocks;
  const double copies =
      std::max(static_cast<double>(stages) * T::kRowBlocks * kBlockClocks,
               static_cast<double>(stages * (T::kStageBytes + T::kInputBytes)) / kL2BytesAClock);
  for (const int64_t most : {int64_t{num_sms}, std::max<int64_t>(1, num_sms / tiles) * tiles}) {
    const int64_t ctas = std::min({most, stages, int64_t{num_sms}});
    const auto products = static_cast<double>((stages + ctas - 1) / ctas * kStageClocks);
    const double clocks = std::max(products, copies) + 0.1 * std::min(products, copies) + kEnds +
                          (tiles % ctas == 0 ? 0 : kJoin);
    if (best.clocks == 0 || clocks < best.clocks) {
      best = {{T::kTokens, static_cast<int32_t>(ctas), TileShape::kTall}, clocks};
    }
  }
}

template <int kTokens>
GemmPlan plan_tile(const GemmArgs& args, int num_sms) {
  Candidate best;
  if constexpr (kTokens < 128) {
    if (multiplies_scaled(args.blocks)) consider_tall<kTokens>(args, num_sms, best);
    consider<Traits<kTokens, Form::kScaled, TileShape::kHalf>>(args, num_sms, best);
  }
  consider<Traits<kTokens, Form::kScaled, TileShape::kAlone>>(args, num_sms, best);
  return best.plan;
}

template <int kTokens, TileShape kShape>
void launch_groups(const GemmArgs& args, const GemmPlan& plan, const CUtensorMap& x_map,
                   cudaStream_t stream) {
  if (multiplies_scaled(args.blocks)) {
    launch<Traits<kTokens, Form::kScaled, kShape>>(args, plan, x_map, stream);
  } else if (args.blocks.num_groups == 1) {
    launch<Traits<kTokens, Form::kGroups, kShape>>(args, plan, x_map, stream);
  } else {
    launch<Traits<kTokens, Form::kShortGroups, kShape>>(args, plan, x_map, stream);
  }
}

template <int kTokens>
void launch_shape(const GemmArgs& args, const GemmPlan& plan, const CUtensorMap& x_map,
                  cudaStream_t stream) {
  if constexpr (kTokens < 128) {
    if (plan.shape == TileShape::kHalf) {
      return launch_groups<kTokens, TileShape::kHalf>(args, plan, x_map, stream);
    }
  }
  launch_groups<kTokens, TileShape::kAlone>(args, plan, x_map, stream);
}

}  // namespace
}  // namespace wgmma

GemmPlan plan_gemm_wgmma(const GemmArgs& args, int num_sms) {
  const Blocks& blocks = args.blocks;
  const GemmPlan measured =
      measured_plan(args.rows, blocks.n, blocks.num_k_blocks * kBlockChannels, num_sms);
  const bool has_kernel = multiplies_scaled(blocks) || measured.shape != TileShape::kTall;
  if (measured.tile_tokens > 0 && blocks.num_groups == 1 && has_kernel) return measured;
  if (args.rows <= 8) return wgmma::plan_tile<8>(args, num_sms);
  if (args.rows <= 16) return wgmma::plan_tile<16>(args, num_sms);
  if (args.rows <= 32) return wgmma::plan_tile<32>(args, num_sms);
  if (args.rows <= 64) return wgmma::plan_tile<64>(args, num_sms);
  return wgmma::plan_tile<128>(args, num_sms);
}

void launch_gemm_wgmma(const GemmArgs& args, const GemmPlan& plan, const void* x_map,
                       cudaStream_t stream) {
  if (args.rows == 0) return;
  if (plan.shape == TileShape::kTall) return launch_gemm_wgmma_tall(args, plan, x_map, stream);
  const auto& map = *static_cast<const CUtensorMap*>(x_map);
  switch (plan.tile_tokens) {
    case 8:
      return wgmma::launch_shape<8>(args, plan, map, stream);
    case 16:
      return wgmma::launch_shape<16>(args, plan, map, stream);
    case 32:
      return wgmma::launch_shape<32>(args, plan, map, stream);
    case 64:
      return wgmma::launch_shape<64>(args, plan, map, stream);
    default:
      return wgmma::launch_shape<128>(args, plan, map, stream);
  }
}

}  // namespace comet::formats::w4a16_cuda
