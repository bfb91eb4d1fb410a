// The host's half of gemm_sm90_chains.
#include "comet/base/check.h"
#include "comet/formats/w4ax/cuda/chains/gemm_sm90_chains.h"
#include "comet/formats/w4ax/cuda/gemm_sm90_maps.h"

namespace comet::formats::w4ax::cuda {

void run_gemm_chains(const GemmArgs& args, const ChainsPlan& plan, void* workspace,
                     CUstream_st* stream) {
  if (args.tokens == 0 || args.num_tiles == 0) return;
  COMET_CHECK(chains_suit(args, plan), "{} tokens, {} blocks by tiles of {} tokens, in {} parts",
              args.tokens, args.blocks, plan.tile_tokens, plan.num_splits);
  const CUtensorMap x_map = map_of_codes(args, plan.tile_tokens);
  launch_gemm_chains(args, plan, &x_map, workspace, stream);
}

}  // namespace comet::formats::w4ax::cuda
