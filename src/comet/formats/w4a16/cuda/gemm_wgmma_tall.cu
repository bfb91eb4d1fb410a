// The sm_90a kernel of tall tiles, 256 rows × up to 64 tokens, and its launch. Operands, start and
// loop as in gemm_wgmma.cuh (Form::kScaled, one ring of weights and inputs together); one CTA an
// SM, all of which share the stages of all tiles evenly (gemm_wgmma_tall.cuh).
//
// Floor: the bytes of W once; of inputs 128 channels × kTokens of every stage from L2, half of what
// tiles of 128 rows read. docs/kernels/w4a16_cuda.md.
#include "comet/formats/w4a16/cuda/gemm_wgmma_tall.cuh"

#include <limits>

#include "comet/base/check.h"
#include "comet/device/cuda/cuda_check.h"
#include "comet/device/cuda/overlapped_launch.cuh"

namespace comet::formats::w4a16_cuda {
namespace wgmma {
namespace {

template <class T>
__global__ void __launch_bounds__(T::kThreads, 1)
    gemm_wgmma_tall(const __grid_constant__ CUtensorMap w_map,
                    const __grid_constant__ CUtensorMap x_map,
                    const __grid_constant__ TallParams p) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ __align__(1024) uint8_t raw_shared[];
  prims::allow_next_kernel();  // it waits for this one's end before it reads what this one writes
  const Shared<T> shared(raw_shared, p.of);
  const auto cta = static_cast<int>(blockIdx.x);
  const int begin = first_stage(p, cta);
  const int end = first_stage(p, cta + 1);
  if (threadIdx.x >= T::kConsumers) {
    const TallLoader<T> loader{p, &w_map, &x_map, shared, begin, end};
    const bool is_loader = threadIdx.x / 32 == T::kConsumers / 32;
    const TallStage first(p, begin);
    if (is_loader && prims::elect_one()) {
      prims::tensor_map_prefetch(&w_map);
      prims::tensor_map_prefetch(&x_map);
      shared.init_barriers(T::kInputStages);
      loader.start(first);
    }
    __syncthreads();
    take_registers<T>(false);
    if (is_loader && prims::elect_one()) loader.run(first);
    return;
  }
  __syncthreads();
  take_registers<T>(true);
  const Consumer<T> consumer(p.of, shared, shared.weights + threadIdx.x / 256 * kScaledBlockBytes);
  const int k_blocks = p.of.args.blocks.num_k_blocks;
  Stages at;
#pragma unroll 1
  for (int stage = begin; stage < end;) {
    const int tile = stage / k_blocks;
    const int next = min(end, (tile + 1) * k_blocks);
    TallTile of = TallTile::of<T>(p, tile);
    of.pin();
    float totals[T::kSums];
    consumer.scaled(totals, at, next - stage);
    TallEnd<T>{p, cta}.run(totals, of);
    stage = next;
  }
#else
  __trap();
#endif
}

template <int kTokens>
void launch_tall(const GemmArgs& args, const GemmPlan& plan, const CUtensorMap& x_map,
                 cudaStream_t stream) {
  using T = Traits<kTokens, Form::kScaled, TileShape::kTall>;
  const CUtensorMap w_map = make_block_map(args.blocks.data, args.blocks.block_bytes());
  TallParams p{};
  p.of.args = args;
  p.of.num_splits = plan.num_splits;
  p.of.num_row_tiles = (args.blocks.n + T::kRows - 1) / T::kRows;
  p.of.num_token_tiles = (args.rows + T::kTokens - 1) / T::kTokens;
  p.of.num_stages = T::kInputStages;
  p.of.stage_bytes = T::kStageBytes;
  const int64_t num_stages =
      int64_t{p.of.num_row_tiles} * p.of.num_token_tiles * args.blocks.num_k_blocks;
  COMET_CHECK(num_stages <= std::numeric_limits<int32_t>::max() && plan.num_splits <= num_stages,
              "{} stages among {} CTAs", num_stages, plan.num_splits);
  p.num_even = static_cast<int32_t>(num_stages / plan.num_splits);
  p.num_longer = static_cast<int32_t>(num_stages % plan.num_splits);
  p.parts = static_cast<float4*>(args.workspace);
  p.arrivals = args.arrivals;
  COMET_CUDA(cudaFuncSetAttribute(gemm_wgmma_tall<T>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  T::kSharedBytes));
  launch_overlapped({.grid = dim3(static_cast<unsigned>(plan.num_splits)),
                     .threads = T::kThreads,
                     .shared_bytes = T::kSharedBytes,
                     .stream = stream},
                    gemm_wgmma_tall<T>, w_map, x_map, p);
}

}  // namespace
}  // namespace wgmma

void launch_gemm_wgmma_tall(const GemmArgs& args, const GemmPlan& plan, const void* x_map,
                            cudaStream_t stream) {
  COMET_CHECK(
      multiplies_scaled(args.blocks) && args.workspace != nullptr && args.arrivals != nullptr,
      "tall tiles of a weight that is not scaled, or without a place for parts");
  const auto& map = *static_cast<const CUtensorMap*>(x_map);
  switch (plan.tile_tokens) {
    case 8:
      return wgmma::launch_tall<8>(args, plan, map, stream);
    case 16:
      return wgmma::launch_tall<16>(args, plan, map, stream);
    case 32:
      return wgmma::launch_tall<32>(args, plan, map, stream);
    default:
      return wgmma::launch_tall<64>(args, plan, map, stream);
  }
}

}  // namespace comet::formats::w4a16_cuda
