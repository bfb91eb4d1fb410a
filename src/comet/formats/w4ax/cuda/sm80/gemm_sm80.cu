// Launches of gemm_sm80.h; what the kernels do stands in gemm_sm80.cuh.
#include "comet/formats/w4ax/cuda/sm80/gemm_sm80.cuh"

namespace comet::formats::w4ax::cuda {

void gemm_sm80(const GemmArgs& args, const Sm80Plan& plan, void* workspace, int32_t* counters,
               CUstream_st* stream) {
  if (args.tokens == 0 || args.num_tiles == 0) return;
  if (plan.tile_tokens == 16) {
    return launch_sm80<Sm80Traits<16, 8, true>>(args, plan, workspace, counters, stream);
  }
  launch_sm80<Sm80Traits<64, 5, true>>(args, plan, workspace, counters, stream);
}

}  // namespace comet::formats::w4ax::cuda
