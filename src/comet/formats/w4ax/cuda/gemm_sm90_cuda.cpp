// The host's half of gemm_sm90: the map of its codes.
#include "comet/device/cuda/tensor_map.h"
#include "comet/formats/w4ax/cuda/gemm_sm90.h"

namespace comet::formats::w4ax::cuda {

void run_gemm_sm90(const GemmArgs& args, const Sm90Plan& plan, void* workspace, int32_t* counters,
                   CUstream_st* stream) {
  if (args.tokens == 0 || args.num_tiles == 0) return;
  const int64_t k = int64_t{args.blocks} * 128;
  const CUtensorMap x_map = make_tensor_map({.data = args.codes,
                                             .dtype = DType::kI8,
                                             .rows = args.tokens,
                                             .columns = k,
                                             .stride = k,
                                             .box_rows = plan.tile_tokens});
  launch_gemm_sm90(args, plan, &x_map, workspace, counters, stream);
}

}  // namespace comet::formats::w4ax::cuda
