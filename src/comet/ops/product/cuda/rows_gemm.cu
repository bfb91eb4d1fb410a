// The kernel of rows_gemm.cuh, its launch and the choice of its tile.
#include "comet/ops/product/cuda/rows_gemm.cuh"

#include <cuda_runtime_api.h>

#include <algorithm>

#include "comet/device/cuda/cuda_check.h"
#include "comet/device/cuda/tensor_map.h"
#include "comet/ops/product/cuda/rows_gemm.h"

namespace comet::ops_cuda {
namespace rows_gemm {
namespace {

template <class T>
__global__ void __launch_bounds__(T::kThreads, 1)
    rows_gemm_kernel(const __grid_constant__ CUtensorMap w_map,
                     const __grid_constant__ CUtensorMap x_map,
                     const __grid_constant__ CUtensorMap out_map, const Params p) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ __align__(1024) uint8_t raw_shared[];
  const auto warpgroup = static_cast<int>(threadIdx.x) / 128;
  const auto warp = static_cast<int>(threadIdx.x) % 128 / 32;
  const bool is_loader = warpgroup == T::kConsumers;
  const int c = is_loader ? min(warp, T::kConsumers - 1) : warpgroup;
  const Shared s = shared_of<T>(raw_shared, p, c);
  // Elected each time, so that ptxas makes no loop over lanes of each copy.
  if (is_loader && warp < T::kConsumers && prims::elect_one()) {
    if (c == 0) prims::mbarrier_init(s.weights_full, 1);
    for (int stage = 0; stage < p.num_stages; ++stage) {
      prims::mbarrier_init(s.full + stage, 1);
      prims::mbarrier_init(s.empty + stage, 4);  // a lane of each warp
    }
    prims::mbarrier_init_fence();
  }
  const int column = tiles_of<T>(p, c).column;
  for (int i = static_cast<int>(threadIdx.x); i < T::kN; i += T::kThreads) {
    s.bias[i] = column + i < p.n ? p.bias[column + i] : 0.0F;
  }
  __syncthreads();
  if (is_loader) {
    prims::registers_shrink<40>();
    if (warp < T::kConsumers && prims::elect_one()) load<T>(p, s, &w_map, &x_map, c);
    return;
  }
  prims::registers_grow<T::kConsumerRegisters>();
  consume<T>(p, s, &out_map, c);
#else
  __trap();
#endif
}

template <class T>
void launch(const RowsGemmArgs& args, int num_sms, cudaStream_t stream) {
  Params p{};
  p.bias = args.bias;
  p.n = args.n;
  p.num_boxes = (args.k + kBoxChannels - 1) / kBoxChannels;
  p.num_stages = T::num_stages(p.num_boxes);
  p.num_columns = (args.n + T::kN - 1) / T::kN;
  p.num_row_tiles = static_cast<int32_t>((args.rows + kTileRows - 1) / kTileRows);
  const CUtensorMap w_map = make_tensor_map(
      {.data = args.w, .rows = args.n, .columns = args.k, .stride = args.k, .box_rows = T::kN});
  const CUtensorMap x_map = make_tensor_map({.data = args.x,
                                             .rows = args.rows,
                                             .columns = args.k,
                                             .stride = args.x_stride,
                                             .box_rows = kTileRows});
  const CUtensorMap out_map = make_tensor_map({.data = args.out,
                                               .rows = args.rows,
                                               .columns = args.n,
                                               .stride = args.out_stride,
                                               .box_rows = kTileRows});
  COMET_CUDA(cudaFuncSetAttribute(rows_gemm_kernel<T>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  kSharedBytes));
  // More CTAs than tiles would only load the weight.
  const int wanted = (p.num_row_tiles + T::kConsumers - 1) / T::kConsumers * p.num_columns;
  const int num_ctas = std::min(std::max(num_sms, p.num_columns), wanted);
  rows_gemm_kernel<T><<<static_cast<unsigned>(num_ctas), T::kThreads, kSharedBytes, stream>>>(
      w_map, x_map, out_map, p);
  COMET_CUDA(cudaGetLastError());
}

template <int kLastSteps>
using FewChannels = Traits<192, 3, 152, kLastSteps>;
template <int kLastSteps>
using MoreChannels = Traits<128, 2, 224, kLastSteps>;
constexpr int kFewBoxes = 3;
static_assert(FewChannels<4>::num_stages(kFewBoxes) >= 3);
static_assert(MoreChannels<4>::num_stages(kMaxRowsGemmK / kBoxChannels) >= 3);

template <int kLastSteps>
void launch_of(const RowsGemmArgs& args, int num_sms, cudaStream_t stream) {
  if (args.k <= kFewBoxes * kBoxChannels) {
    launch<FewChannels<kLastSteps>>(args, num_sms, stream);
  } else {
    launch<MoreChannels<kLastSteps>>(args, num_sms, stream);
  }
}

}  // namespace
}  // namespace rows_gemm

bool rows_gemm_supports(const RowsGemmArgs& args, int sm) {
  const auto at = reinterpret_cast<uintptr_t>(args.x) | reinterpret_cast<uintptr_t>(args.w) |
                  reinterpret_cast<uintptr_t>(args.out);
  return sm == 90 && at % 16 == 0 && args.x_stride % 8 == 0 && args.out_stride % 8 == 0 &&
         args.k % 8 == 0 && args.k <= kMaxRowsGemmK;
}

void launch_rows_gemm(const RowsGemmArgs& args, int num_sms, CUstream_st* stream) {
  if (args.rows == 0 || args.n == 0) return;
  // Where the last box's second half is beyond k it is not multiplied.
  if ((args.k - 1) % rows_gemm::kBoxChannels < rows_gemm::kBoxChannels / 2) {
    rows_gemm::launch_of<2>(args, num_sms, stream);
  } else {
    rows_gemm::launch_of<4>(args, num_sms, stream);
  }
}

}  // namespace comet::ops_cuda
